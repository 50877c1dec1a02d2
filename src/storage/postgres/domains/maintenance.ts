import { setTimeout as sleep } from "node:timers/promises";
import { ServiceError } from "../../../memory/model/errors.ts";
import type { Logger } from "../../../util/logger.ts";
import type { Database } from "../../database/database.ts";
import { refreshTextStatistics } from "../search/text-statistics.ts";
import { selectDomains } from "./domain-catalogue.ts";
import { domainTables } from "./domain-tables.ts";

/** How often tables are looked at. A look costs about a millisecond a domain. */
const LOOK_MS = 10_000;
/** Tables that grew by this factor since they were last analysed are analysed again. */
const GROWTH = 1.2;
/** Smaller tables are read whole in any case: 50 pages of 8 KB. */
const SMALLEST_PAGES = 50;
/** Rows that were deleted or replaced, for each that lives, until the indexes are freed of them. */
const DEAD_SHARE = 0.5;
/** Fewer dead rows than this are not worth it. */
const FEWEST_DEAD = 100;

/**
 * Keeps the statistics of BM25 in SQL, and does on the embedded engine what autovacuum does on a server. Without
 * statistics its planner takes every condition for rare and never uses a vector index: at 10,000 memories a semantic
 * search fell from 20 to 8 ms. Emptying the pending list of the text index halves a text search after many inserts.
 * Without removing what is dead, 2,000 memories that were replaced for ten minutes took four times their place.
 */
export function startUpkeep(dependencies: { readonly database: Database; readonly logger: Logger }) {
  const { database, logger } = dependencies;
  const stop = new AbortController();
  const done = run();

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      await lookAfter(database, stop.signal).catch((error: unknown) => {
        if (!stop.signal.aborted) logger.warn({ err: error }, "upkeep of the database failed");
      });
      await sleep(LOOK_MS, undefined, { signal: stop.signal, ref: false }).catch(() => {});
    }
  }

  return {
    async close(): Promise<void> {
      stop.abort(new ServiceError("SHUTTING_DOWN", "the server is shutting down"));
      await done;
    },
  };
}

async function lookAfter(database: Database, signal: AbortSignal): Promise<void> {
  if (database.engine === "embedded") await vacuumTables(database, signal);
  await refreshTextStatistics(database, signal);
}

/**
 * Vacuums and analyses the tables of all domains that have grown, or hold many dead rows; returns their names. The
 * embedded engine does nothing else meanwhile, so most of the time only the place of dead rows in the table is freed (8
 * ms for 3,000 memories). Their index entries wait until they are many: then the vector index is built anew, in 7 s for
 * 3,000, where vacuum would mend it in 34 s.
 */
export async function vacuumTables(database: Database, signal?: AbortSignal): Promise<string[]> {
  const vacuumed: string[] = [];
  // Counts of changed rows are there for others to read once they are flushed, which this engine does not do by itself.
  await database.query({ text: "select pg_stat_force_next_flush()" }, [], { signal });
  for (const { name } of await selectDomains(database, { signal })) {
    const { memories, chunks } = domainTables(name);
    for (const table of [memories, chunks]) {
      signal?.throwIfAborted();
      const state = await readState(database, table, signal);
      if (state?.spent === true) await rebuild(database, table, signal);
      else if (state?.grown === true) await freeRows(database, table, signal);
      else continue;
      vacuumed.push(table);
    }
  }
  return vacuumed;
}

/**
 * `spent`: many rows are dead. `grown`: since it was last vacuumed, or not known when (an engine that was killed
 * forgets).
 */
async function readState(database: Database, table: string, signal: AbortSignal | undefined) {
  const [state] = await database.query<{ spent: boolean; grown: boolean }>(
    {
      text: `select
          n_dead_tup > greatest($4::bigint, n_live_tup * $5::float8) as spent,
          pages > greatest($2::bigint, relpages * $3::float8) or (pages > $2 and last_vacuum is null) as grown
        from pg_class
        join pg_stat_all_tables on relid = oid
        cross join lateral (select pg_relation_size(oid) / 8192 as pages) as size
        where oid = to_regclass($1)`,
    },
    [table, SMALLEST_PAGES, GROWTH, FEWEST_DEAD, DEAD_SHARE],
    { signal },
  );
  return state;
}

async function freeRows(database: Database, table: string, signal: AbortSignal | undefined): Promise<void> {
  await database.execute(`vacuum (analyze, index_cleanup off) ${table}`);
  for (const index of await indexesOf(database, table, "gin", signal)) {
    await database.query({ text: "select gin_clean_pending_list($1::regclass)" }, [index], { signal });
  }
  // What was written lately lies in pages that every search reads, then in more and more segments: of 10,000 memories
  // the words are ranked in 1.2 ms instead of 2.0, and putting them together takes 0.3 s.
  for (const index of await indexesOf(database, table, "bm25", signal)) {
    await database.query({ text: "select bm25_force_merge($1)" }, [index], { signal });
  }
}

/** A vacuum of a vector index whose dead entries are gone has nothing to mend. */
async function rebuild(database: Database, table: string, signal: AbortSignal | undefined): Promise<void> {
  for (const index of await indexesOf(database, table, "hnsw", signal)) {
    await database.execute(`reindex index ${index}`);
  }
  await database.execute(`vacuum (analyze) ${table}`);
}

/** Names as they stand in a statement. */
async function indexesOf(
  database: Database,
  table: string,
  method: "bm25" | "gin" | "hnsw",
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const rows = await database.query<{ name: string }>(
    {
      text: `select indexrelid::regclass::text as name
        from pg_index
        join pg_class on pg_class.oid = indexrelid
        join pg_am on pg_am.oid = relam
        where indrelid = to_regclass($1) and amname = $2`,
    },
    [table, method],
    { signal },
  );
  return rows.map(({ name }) => name);
}
