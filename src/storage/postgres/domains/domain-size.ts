import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "./domain-tables.ts";

/** Rows of the tables of a domain, roughly. */
export interface DomainSize {
  readonly memories: number;
  readonly chunks: number;
}

/** Rows on a page of a table that was never analysed: those of vectors with 768 dimensions. */
const UNKNOWN_DENSITY = 2;

/**
 * As the planner estimates it: the density found when it was last analysed times the size of now. Counting would cost
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

/** How long an estimate is believed: a domain does not grow tenfold meanwhile. */
const BELIEVED_MS = 10_000;

/** Estimates sizes of domains, each at most every few seconds. */
export function createDomainSizes(
  database: Queryable,
): (domain: string, options?: QueryOptions) => Promise<DomainSize> {
  const known = new Map<string, { readonly size: DomainSize; readonly until: number }>();
  return async (domain, options) => {
    const cached = known.get(domain);
    if (cached !== undefined && cached.until > performance.now()) return cached.size;
    const size = await estimateSize(database, domain, options);
    known.set(domain, { size, until: performance.now() + BELIEVED_MS });
    return size;
  };
}
