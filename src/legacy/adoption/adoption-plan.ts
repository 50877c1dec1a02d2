import { DOMAIN_NAME } from "../../memory/model/limits.ts";
import type { LegacyTable } from "./legacy-tables.ts";

/** A table of the old version, and the domain that it becomes. */
export interface PlannedTable {
  readonly old: LegacyTable;
  readonly domain: string;
}

export interface AdoptionPlan {
  readonly tables: readonly PlannedTable[];
  /** Tables that are left alone, as was asked. */
  readonly skipped: readonly LegacyTable[];
  /** Why it cannot be carried out: a sentence each. */
  readonly problems: readonly string[];
}

/** What was asked for. Tables are named by the old domain, or by the table's own name. */
export interface AdoptionChoices {
  readonly map: ReadonlyMap<string, string>;
  readonly skip: ReadonlySet<string>;
}

/**
 * Gives every table the domain it becomes: that of its name, or the one asked for.
 *
 * @param domains our domains that are there. `copy`: memories may be added to them.
 */
export function planAdoption(
  found: readonly LegacyTable[],
  wishes: AdoptionChoices,
  domains: ReadonlySet<string>,
  { copy }: { readonly copy: boolean },
): AdoptionPlan {
  const problems: string[] = [];
  const tables: PlannedTable[] = [];
  const isSkipped = ({ table, domain }: LegacyTable) => wishes.skip.has(table) || wishes.skip.has(domain);
  const skipped = found.filter(isSkipped);
  for (const old of found.filter((one) => !isSkipped(one))) {
    const asked = wishes.map.get(old.table) ?? wishes.map.get(old.domain);
    const domain = asked ?? old.domain;
    const taken = tables.find((other) => other.domain === domain);
    if (!DOMAIN_NAME.test(domain) || (old.cut && asked === undefined)) {
      const why =
        old.cut && asked === undefined
          ? "has lost the end of its name to PostgreSQL's 63 bytes"
          : `cannot become the domain ${JSON.stringify(domain)} (a lower-case letter, then at most 39 of a-z, 0-9, _ and -)`;
      problems.push(
        `${JSON.stringify(old.table)} ${why}: add --map ${shellQuoted(`${old.domain}=new-name`)}`,
      );
    } else if (taken !== undefined && !copy) {
      problems.push(
        `${JSON.stringify(old.table)} and ${JSON.stringify(taken.old.table)} would both become the domain "${domain}": map one of them to another name`,
      );
    } else if (domains.has(domain) && !copy && old.table !== `${domain}_memories`) {
      problems.push(`${JSON.stringify(old.table)} cannot become the domain "${domain}", which exists`);
    }
    tables.push({ old, domain });
  }
  return { tables, skipped, problems };
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
