import { DOMAIN_NAME } from "../../memory/model/limits.ts";
import type { LegacyTable } from "./legacy-tables.ts";

/** A table of the old server, and the domain that it becomes. */
export interface PlannedTable {
  readonly old: LegacyTable;
  readonly domain: string;
}

export interface AdoptionPlan {
  readonly tables: readonly PlannedTable[];
  /** Tables that stay unchanged because the user skips them. */
  readonly skipped: readonly LegacyTable[];
  /** Reasons why the plan cannot be carried out, as sentences. */
  readonly problems: readonly string[];
}

/** The user's choices. A table is named by the old domain or by its own name. */
export interface AdoptionChoices {
  readonly map: ReadonlyMap<string, string>;
  readonly skip: ReadonlySet<string>;
}

/**
 * Plans the domain for every table: the one that its name contains, or the one that the user maps it to.
 *
 * @param domains existing domains
 * @param options `copy`: whether memories may be added to existing domains
 */
export function planAdoption(
  found: readonly LegacyTable[],
  choices: AdoptionChoices,
  domains: ReadonlySet<string>,
  { copy }: { readonly copy: boolean },
): AdoptionPlan {
  const problems: string[] = [];
  const tables: PlannedTable[] = [];
  const isSkipped = ({ table, domain }: LegacyTable) => choices.skip.has(table) || choices.skip.has(domain);
  const skipped = found.filter(isSkipped);
  for (const old of found.filter((one) => !isSkipped(one))) {
    const mapped = choices.map.get(old.table) ?? choices.map.get(old.domain);
    const domain = mapped ?? old.domain;
    const taken = tables.find((other) => other.domain === domain);
    if (!DOMAIN_NAME.test(domain) || (old.truncated && mapped === undefined)) {
      const reason =
        old.truncated && mapped === undefined
          ? "has a name that PostgreSQL truncated to 63 bytes"
          : `cannot become the domain ${JSON.stringify(domain)} (a name is a lower-case letter followed by at most 39 of a-z, 0-9, _ and -)`;
      problems.push(
        `${JSON.stringify(old.table)} ${reason}; add --map ${shellQuoted(`${old.domain}=new-name`)}`,
      );
    } else if (taken !== undefined && !copy) {
      problems.push(
        `${JSON.stringify(old.table)} and ${JSON.stringify(taken.old.table)} would both become the domain "${domain}"; map one of them to another name`,
      );
    } else if (domains.has(domain) && !copy && old.table !== `${domain}_memories`) {
      problems.push(
        `${JSON.stringify(old.table)} cannot become the domain "${domain}", which already exists`,
      );
    }
    tables.push({ old, domain });
  }
  return { tables, skipped, problems };
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
