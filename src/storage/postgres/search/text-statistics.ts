import type { Database, QueryOptions } from "../../database/database.ts";
import { SQLSTATE, sqlstateOf } from "../../database/errors.ts";

/** Smaller tables are counted in each search: at most some thousand memories, of 8 KB pages. */
const SMALLEST_PAGES = 200;
/** Statistics of a table that grew by this factor since, or shrank by it, are made anew. */
const GROWTH = 1.2;

/**
 * Makes the statistics of domains without a BM25 index whose tables have grown or shrunk; returns their names. Servers
 * that share a database take turns, and nobody who reads or writes memories waits for it.
 */
export async function refreshTextStatistics(database: Database, signal?: AbortSignal): Promise<string[]> {
  const refreshed: string[] = [];
  for (const domain of await findOutdated(database, { signal })) {
    signal?.throwIfAborted();
    if (await refresh(database, domain)) refreshed.push(domain);
  }
  return refreshed;
}

async function findOutdated(database: Database, options: QueryOptions): Promise<string[]> {
  const rows = await database.query<{ name: string }>(
    {
      name: "select_outdated_text_statistics",
      text: `select d.name
        from memory_domains d
        left join memory_text_statistics s on s.domain_id = d.id
        cross join lateral (select to_regclass(format('%I', d.name || '_memories')) as oid) as t
        cross join lateral (select pg_relation_size(t.oid) / 8192 as pages) as size
        where to_regclass(format('%I', d.name || '_memories_bm25_idx')) is null
          and (
            size.pages > greatest($1::bigint, s.pages * $2::float8)
            or size.pages * $2::float8 < s.pages
          )
        order by d.name`,
    },
    [SMALLEST_PAGES, GROWTH],
    options,
  );
  return rows.map(({ name }) => name);
}

async function refresh(database: Database, domain: string): Promise<boolean> {
  try {
    const [row] = await database.query<{ done: boolean }>(
      { text: "select refresh_memory_text_statistics($1) as done" },
      [domain],
    );
    return row?.done === true;
  } catch (error) {
    // Dropped meanwhile.
    if (sqlstateOf(error) === SQLSTATE.undefinedTable) return false;
    throw error;
  }
}
