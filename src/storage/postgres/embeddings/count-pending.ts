import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";

/** Bounds that keep counting cheap, and the signal that ends it. */
export interface CountPendingOptions extends QueryOptions {
  /** Domains to look at, the first by name: one statement names them all. Default 100. */
  readonly maxDomains?: number;
  /** Where counting ends in each domain. Default 10,000. */
  readonly maxMemories?: number;
}

/**
 * Counts pending memories by domain, within bounds. Reads nothing but the partial index that the embedding worker
 * takes its work from; expired memories are counted too.
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
  // Unnamed: the text changes with the domains.
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
