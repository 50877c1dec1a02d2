import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";

/** Limits that keep counting cheap. */
export interface CountPendingOptions extends QueryOptions {
  /** Maximum number of domains, in order of name, because one statement names them all. Defaults to 100. */
  readonly maxDomains?: number;
  /** Maximum count of each domain. Defaults to 10,000. */
  readonly maxMemories?: number;
}

/**
 * Counts pending memories by domain, within limits. Reads only the partial index that the embedding worker also uses,
 * so it includes expired memories.
 */
export async function countPending(
  database: Queryable,
  options: CountPendingOptions = {},
): Promise<ReadonlyMap<string, number>> {
  const { maxDomains = 100, maxMemories = 10_000 } = options;
  const domains = await database.query<{ name: string }>(
    { name: "select_counted_domains", text: "select name from memory_domains order by name limit $1" },
    [maxDomains],
    options,
  );
  if (domains.length === 0) return new Map();
  // Not prepared, because the text depends on the domains.
  const text = domains
    .map(({ name }, index) => {
      const { memories } = domainTables(name);
      return `select ${index} as domain, count(*)::integer as pending from (
        select from ${memories} where embedding_state = 'pending' limit $1) p`;
    })
    .join("\nunion all ");
  const rows = await database.query<{ domain: number; pending: number }>({ text }, [maxMemories], options);
  return new Map(rows.map((row) => [domains[row.domain]?.name ?? "", row.pending]));
}
