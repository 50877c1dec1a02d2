import { LRUCache } from "lru-cache";
import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "./domain-tables.ts";

/** Approximate number of rows in the tables of a domain. */
export interface DomainSize {
  readonly memories: number;
  readonly chunks: number;
}

/** Rows per page of a table without statistics: the value for vectors with 768 dimensions. */
const UNKNOWN_DENSITY = 2;

/**
 * Estimates the size as the planner does: the density at the last analysis times the present size. Counting would cost
 * as much as a search.
 */
async function estimateSize(
  database: Queryable,
  domain: string,
  options?: QueryOptions,
): Promise<DomainSize> {
  const { memories, chunks } = domainTables(domain);
  const rowsOf = (table: string) => `(
      select pg_relation_size(oid) / current_setting('block_size')::integer
        * case when relpages > 0 and reltuples >= 0 then reltuples / relpages else ${UNKNOWN_DENSITY} end
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

/** How long an estimate is used. A domain does not grow tenfold in this time. */
const CACHE_TTL_MS = 10_000;
const MAX_CACHED_DOMAINS = 10_000;

/** Creates a function that estimates the size of a domain, at most every few seconds. */
export function createDomainSizes(
  database: Queryable,
): (domain: string, options?: QueryOptions) => Promise<DomainSize> {
  const cache = new LRUCache<string, DomainSize>({ max: MAX_CACHED_DOMAINS, ttl: CACHE_TTL_MS });
  return async (domain, options) => {
    const cached = cache.get(domain);
    if (cached !== undefined) return cached;
    const size = await estimateSize(database, domain, options);
    cache.set(domain, size);
    return size;
  };
}
