import type { FetchedMemory, FetchOptions, HitToFetch, Snippet } from "../../../memory/model/search-index.ts";
import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables, isAlive } from "../domains/domain-tables.ts";
import { type MemoryRow, memoryColumns, memoryFromRow } from "../memories/memory-row.ts";

/**
 * Code points before and after the start of the chunk to highlight. Highlighting them takes 5 ms, or 70 ms for a Chinese text in
 * which every character matches.
 */
const REACH = 16_384;

interface FetchedRow extends MemoryRow {
  readonly content: string | null;
  readonly preview: string;
  readonly snippet: string;
  readonly snippet_start: number;
  readonly surroundings: string | null;
  readonly surroundings_start: number;
}

/** Reads memories by id, in the order of the hits. Deleted and expired memories are missing. */
export async function fetchMemories(
  database: Queryable,
  domain: string,
  hits: readonly HitToFetch[],
  { content, snippetLength }: FetchOptions,
  options?: QueryOptions,
): Promise<FetchedMemory[]> {
  const { memories, chunks } = domainTables(domain);
  const rows = await database.query<FetchedRow>(
    {
      name: `fetch_memories:${domain}`,
      text: `select ${memoryColumns("m")},
          case when $3 then m.content end as content,
          case when $3 then '' else left(m.content, $5) end as preview,
          coalesce(c.start_offset, 0) as snippet_start,
          substr(m.content, coalesce(c.start_offset, 0) + 1,
            least(coalesce(c.end_offset - c.start_offset, $5), $5)) as snippet,
          greatest(coalesce(c.start_offset, 0) - ${REACH}, 0) as surroundings_start,
          case when hit.by_words
            then substr(m.content, greatest(coalesce(c.start_offset, 0) - ${REACH}, 0) + 1, ${2 * REACH})
          end as surroundings
        from unnest($1::text[], $2::integer[], $4::boolean[])
          with ordinality as hit (id, chunk_index, by_words, position)
        join ${memories} m on m.id = hit.id
        left join ${chunks} c on c.memory_id = hit.id and c.chunk_index = hit.chunk_index
        where ${isAlive("m")}
        order by hit.position`,
    },
    [
      hits.map((hit) => hit.id),
      hits.map((hit) => hit.chunkIndex ?? 0),
      content,
      hits.map((hit) => String(hit.textRank !== undefined)),
      snippetLength,
    ],
    options,
  );
  return rows.map((row) => ({
    memory: memoryFromRow(domain, row, row.content ?? ""),
    preview: row.preview,
    snippet: snippetFrom(row.snippet, row.snippet_start),
    surroundings:
      row.surroundings === null ? undefined : snippetFrom(row.surroundings, row.surroundings_start),
  }));
}

function snippetFrom(text: string, start: number): Snippet {
  return { text, start, end: start + codePoints(text) };
}

function codePoints(text: string): number {
  let points = 0;
  for (const _ of text) points++;
  return points;
}
