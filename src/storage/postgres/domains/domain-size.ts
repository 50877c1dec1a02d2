import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "./domain-tables.ts";

/** Estimated number of rows in the tables of a domain. */
export interface DomainSize {
  readonly memories: number;
  readonly chunks: number;
}

/** Rows per page of a table that was never analysed, as for embeddings of 768 dimensions. */
const DEFAULT_DENSITY = 2;

/**
 * Estimates the size like the planner: the density when the table was last analysed times its current size. Counting
 * would take as long as a search.
 */
async function estimateSize(
  database: Queryable,
  domain: string,
  options?: QueryOptions,
): Promise<DomainSize> {
  const { memories, chunks } = domainTables(domain);
  const rowsOf = (table: string) => `(
      select pg_relation_size(oid) / current_setting('block_size')::integer
        * case when relpages > 0 and reltuples >= 0 then reltuples / relpages else ${DEFAULT_DENSITY} end
      from pg_class where oid = ${table}::regclass
    )::float8`;
  const [size] = await database.query<{ memories: number; chunks: number }>(
    {
      name: "estimate_size",
      text: `select ${rowsOf("$1")} as memories, ${rowsOf("$2")} as chunks`,
    },
    [memories, chunks],
    options,
  );
  return size ?? { memories: 0, chunks: 0 };
}

/** How long an estimate is cached. A domain does not grow tenfold in this time. */
const CACHE_MS = 10_000;

/** Creates a function that estimates the size of a domain, and caches estimates for a few seconds. */
export function createDomainSizes(
  database: Queryable,
): (domain: string, options?: QueryOptions) => Promise<DomainSize> {
  const cache = new Map<string, { readonly size: DomainSize; readonly until: number }>();
  return async (domain, options) => {
    const cached = cache.get(domain);
    if (cached !== undefined && cached.until > performance.now()) return cached.size;
    const size = await estimateSize(database, domain, options);
    cache.set(domain, { size, until: performance.now() + CACHE_MS });
    return size;
  };
}
