import pg from "pg";
import type { TextRanker } from "../../../src/memory/model/search-index.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { readTextRanker } from "../../../src/storage/postgres/search/search-text.ts";
import { type DatabaseEngine, databaseEngines, migrated } from "./databases.ts";
import { testDatabaseUrl } from "./postgres-server.ts";

/** A full-text ranking method on one engine. */
export interface RankedEngine extends DatabaseEngine {
  readonly ranker: TextRanker;
}

/** Returns every engine with each ranking method it supports; BM25 in SQL is always supported. */
export async function rankedEngines(): Promise<RankedEngine[]> {
  const ranked: RankedEngine[] = [];
  for (const engine of databaseEngines(migrated)) {
    const rankers: TextRanker[] =
      engine.engine === "embedded" || (await hasExtension()) ? ["bm25_index", "bm25_sql"] : ["bm25_sql"];
    for (const ranker of rankers) ranked.push({ ...engine, ranker });
  }
  return ranked;
}

/** Selects the ranking method of a domain: BM25 in SQL is used if the index is missing. */
export async function useRanker(database: Database, domain: string, ranker: TextRanker): Promise<void> {
  if (ranker === "bm25_sql") await database.execute(`drop index if exists "${domain}_memories_bm25_idx"`);
  else if ((await readTextRanker(database)) !== ranker) throw new Error("pg_textsearch is not available");
}

async function hasExtension(): Promise<boolean> {
  const client = new pg.Client({ connectionString: testDatabaseUrl() });
  await client.connect();
  try {
    const { rowCount } = await client.query(
      "select from pg_available_extensions where name = 'pg_textsearch'",
    );
    return rowCount === 1;
  } finally {
    await client.end();
  }
}
