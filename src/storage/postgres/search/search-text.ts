import { LRUCache } from "lru-cache";
import type { TextAnswer, TextQuery, TextRanker } from "../../../memory/model/search-index.ts";
import { type Database, DatabaseError, type Queryable, type QueryOptions } from "../../database/database.ts";
import { SQLSTATE } from "../../database/errors.ts";
import { domainTables } from "../domains/domain-tables.ts";
import { rankByBm25Index } from "./search-text-index.ts";
import { rankByBm25Sql } from "./search-text-sql.ts";
import type { RankByText } from "./text-ranking.ts";

export interface TextSearch {
  /** Finds the memories that contain any word of the query and satisfy its operators, best first. */
  find(domain: string, query: TextQuery, options?: QueryOptions): Promise<TextAnswer>;
}

const RANKERS = {
  bm25_index: rankByBm25Index,
  bm25_sql: rankByBm25Sql,
} as const satisfies Record<TextRanker, RankByText>;

/** How long the server remembers whether a domain has a BM25 index. */
const CACHE_TTL_MS = 5_000;
const MAX_CACHED_DOMAINS = 10_000;

/** Creates full-text search, which uses the BM25 index of the domain if it exists, and BM25 in SQL otherwise. */
export function createTextSearch(database: Database): TextSearch {
  const cache = new LRUCache<string, TextRanker>({ max: MAX_CACHED_DOMAINS, ttl: CACHE_TTL_MS });

  async function rankerOf(domain: string, options?: QueryOptions): Promise<TextRanker> {
    const cached = cache.get(domain);
    if (cached !== undefined) return cached;
    const ranker = (await hasBm25Index(database, domain, options)) ? "bm25_index" : "bm25_sql";
    cache.set(domain, ranker);
    return ranker;
  }

  return {
    async find(domain, { terms, depth, minScore = 0, filter }, options) {
      const query = { ...terms, depth: Math.trunc(depth), filter };
      const rankBy = async (ranker: TextRanker) => {
        const found = await RANKERS[ranker](database, domain, query, options);
        const candidates = found.candidates.filter(({ score }) => score >= minScore);
        // If some candidates are below the minimum score, so are all memories that were not found.
        const exhausted = found.exhausted || candidates.length < found.candidates.length;
        return { candidates, exhausted, ranker };
      };
      try {
        return await rankBy(await rankerOf(domain, options));
      } catch (error) {
        if (!isMissingIndex(error)) throw error;
        cache.delete(domain);
        return await rankBy("bm25_sql");
      }
    },
  };
}

/** Returns the ranker that a new domain gets. @throws DatabaseError */
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

/** Returns whether the index or the whole extension was dropped. */
function isMissingIndex(error: unknown): boolean {
  return (
    error instanceof DatabaseError &&
    (error.sqlstate === SQLSTATE.undefinedObject || error.sqlstate === SQLSTATE.undefinedFunction)
  );
}
