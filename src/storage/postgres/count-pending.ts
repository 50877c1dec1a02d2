import type { Queryable, QueryOptions } from "../database/database.ts";
import { domainTables } from "./domain-tables.ts";

/** Domains that are looked at, the first by name: one statement names them all. */
export const MAX_COUNTED_DOMAINS = 100;

/** Counting ends here, so that a domain full of pending memories costs milliseconds. */
export const MAX_COUNTED_MEMORIES = 10_000;

/**
 * Counts pending memories by domain, up to MAX_COUNTED_MEMORIES each, in at most MAX_COUNTED_DOMAINS domains. Reads
 * nothing but the partial index that the embedding worker takes its work from; expired memories are counted too.
 */
export async function countPending(
  database: Queryable,
  options?: QueryOptions,
): Promise<ReadonlyMap<string, number>> {
  const domains = await database.query<{ name: string }>(
    { name: "select_counted_domains", text: "select name from memory_domains order by name limit $1" },
    [MAX_COUNTED_DOMAINS],
    options,
  );
  if (domains.length === 0) return new Map();
  // Unnamed: the text changes with the domains.
  const text = domains
    .map(({ name }, index) => {
      const { memories } = domainTables(name);
      return `select ${index} as domain, count(*)::integer as pending from (
        select from ${memories} where embedding_state = 'pending' limit ${MAX_COUNTED_MEMORIES}) p`;
    })
    .join("\nunion all ");
  const rows = await database.query<{ domain: number; pending: number }>({ text }, [], options);
  return new Map(rows.map((row) => [domains[row.domain]?.name ?? "", row.pending]));
}
