import type { Database, QueryOptions } from "../../database/database.ts";
import { SQLSTATE, sqlstateOf } from "../../database/errors.ts";

/** Minimum size of a table for statistics, in pages of 8 KB. Each search counts a smaller one, of at most some thousand memories. */
const SMALLEST_PAGES = 200;
/** Statistics are recomputed when the table has grown or shrunk by this factor. */
const GROWTH = 1.2;

/**
 * Recomputes the statistics of domains without a BM25 index whose tables have grown or shrunk, and returns their names. Servers
 * that share a database take turns. Reads and writes of memories do not wait for it.
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
      { writes: true, text: "select refresh_memory_text_statistics($1) as done" },
      [domain],
    );
    return row?.done === true;
  } catch (error) {
    // The domain was deleted in the meantime.
    if (sqlstateOf(error) === SQLSTATE.undefinedTable) return false;
    throw error;
  }
}
