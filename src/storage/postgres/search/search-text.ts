import type { Filter } from "../../../memory/model/filter.ts";
import type { TextAnswer, TextQuery, TextRanker } from "../../../memory/model/memory-repository.ts";
import { parseTextQuery, type TextTerms } from "../../../memory/search/text-query.ts";
import {
  type Database,
  DatabaseError,
  type Parameter,
  type Queryable,
  type QueryOptions,
} from "../../database/database.ts";
import { SQLSTATE } from "../../database/errors.ts";
import { domainTables } from "../domains/domain-tables.ts";
import { isMatching } from "./compile-filter.ts";
import { findByBm25Index } from "./search-text-index.ts";
import { findByBm25Sql } from "./search-text-sql.ts";

/** A way to find memories by their words. Both ways answer by one contract and differ a little in their ranking. */
export type FindByText = (
  database: Queryable,
  domain: string,
  query: ParsedTextQuery,
  options?: QueryOptions,
) => Promise<Pick<TextAnswer, "candidates" | "exhausted">>;

/** A query with its operators read. */
export interface ParsedTextQuery extends TextTerms {
  readonly depth: number;
  readonly filter: Filter | undefined;
}

export interface TextSearch {
  /** The memories that contain any word of the query and obey its operators, best first. */
  find(domain: string, query: TextQuery, options?: QueryOptions): Promise<TextAnswer>;
}

const ways = {
  bm25_index: findByBm25Index,
  bm25_sql: findByBm25Sql,
} as const satisfies Record<TextRanker, FindByText>;

/** How long it is believed that a domain has a BM25 index or has none. */
const RANKER_CACHE_MS = 5_000;

/** Text search by the BM25 index of the domain, if there is one, else by BM25 in SQL. */
export function createTextSearch(database: Database): TextSearch {
  const cache = new Map<string, { readonly ranker: TextRanker; readonly until: number }>();

  async function rankerOf(domain: string, options?: QueryOptions): Promise<TextRanker> {
    const cached = cache.get(domain);
    if (cached !== undefined && cached.until > performance.now()) return cached.ranker;
    const ranker = (await hasBm25Index(database, domain, options)) ? "bm25_index" : "bm25_sql";
    cache.set(domain, { ranker, until: performance.now() + RANKER_CACHE_MS });
    return ranker;
  }

  return {
    async find(domain, { query, depth, minScore = 0, filter }, options) {
      const parsed = { ...parseTextQuery(query), depth: Math.trunc(depth), filter };
      const findBy = async (ranker: TextRanker) => {
        const found = await ways[ranker](database, domain, parsed, options);
        const candidates = found.candidates.filter(({ score }) => score >= minScore);
        // Where some are below the least score, what was not found is, too.
        const exhausted = found.exhausted || candidates.length < found.candidates.length;
        return { candidates, exhausted, ranker };
      };
      try {
        return await findBy(await rankerOf(domain, options));
      } catch (error) {
        if (!isWithoutIndex(error)) throw error;
        cache.delete(domain);
        return await findBy("bm25_sql");
      }
    },
  };
}

/** The way of a domain made now. @throws what the database throws */
export async function readTextRanker(database: Queryable): Promise<TextRanker> {
  const [row] = await database.query<{ usable: boolean }>({
    text: "select to_regprocedure('to_bm25query(text, text)') is not null as usable",
  });
  return row?.usable === true ? "bm25_index" : "bm25_sql";
}

async function hasBm25Index(database: Queryable, domain: string, options?: QueryOptions): Promise<boolean> {
  const rows = await database.query(
    {
      name: "has_bm25_index",
      text: "select from pg_index where indexrelid = to_regclass($1) and indisvalid",
    },
    [domainTables(domain).bm25Index],
    options,
  );
  return rows.length > 0;
}

/** Somebody dropped the index, or the whole extension. */
function isWithoutIndex(error: unknown): boolean {
  return (
    error instanceof DatabaseError &&
    (error.sqlstate === SQLSTATE.undefinedObject || error.sqlstate === SQLSTATE.undefinedFunction)
  );
}

/**
 * The condition that a row of `memories` (under this alias) exists for callers, passes the filter and obeys the operators.
 * The BM25 index knows neither phrases nor exclusion, and the ranking in SQL ranks by single words.
 */
export function textConditions(
  domain: string,
  query: ParsedTextQuery,
  parameters: Parameter[],
  alias: string,
): string {
  const conditions = [isMatching(query.filter, parameters, alias)];
  if (query.required.length > 0 || query.excluded.length > 0) {
    const first = parameters.push(domain, query.required, query.excluded) - 2;
    const condition = `(select memory_domain_condition($${first}, $${first + 1}::text[], $${first + 2}::text[]))`;
    // Null where nothing is left to check: then it holds.
    conditions.push(`(${alias}.text_vector @@ ${condition}) is not false`);
  }
  return conditions.join(" and ");
}

/** Whether the statement is the usual one of its domain, which is worth preparing. */
export function isUsual(query: ParsedTextQuery, usualDepth: number): boolean {
  const { depth, filter, required, excluded } = query;
  return depth === usualDepth && filter === undefined && required.length === 0 && excluded.length === 0;
}
