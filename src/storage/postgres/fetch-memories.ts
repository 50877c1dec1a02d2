import type { Queryable, QueryOptions } from "../database/database.ts";
import type { Candidate, FetchedMemory } from "../memory-repository.ts";
import { domainTables, isAlive } from "./domain-tables.ts";
import { type MemoryRow, memoryColumns, memoryFromRow } from "./memory-row.ts";

/** Code points of a snippet: a few lines, enough to see why it matched. */
const SNIPPET_LENGTH = 300;

interface FetchedRow extends MemoryRow {
  readonly content: string | null;
  readonly preview: string;
  readonly snippet: string;
  readonly snippet_start: number;
}

/** Reads memories by id, in the order of the ids; those deleted or expired meanwhile are missing. */
export async function fetchMemories(
  database: Queryable,
  domain: string,
  hits: readonly Pick<Candidate, "id" | "chunkIndex">[],
  withContent: boolean,
  options?: QueryOptions,
): Promise<FetchedMemory[]> {
  const { memories, chunks } = domainTables(domain);
  const rows = await database.query<FetchedRow>(
    {
      name: `fetch_memories:${domain}`,
      text: `select ${memoryColumns("m")},
          case when $3 then m.content end as content,
          case when $3 then '' else left(m.content, ${SNIPPET_LENGTH}) end as preview,
          coalesce(c.start_offset, 0) as snippet_start,
          substr(m.content, coalesce(c.start_offset, 0) + 1,
            least(coalesce(c.end_offset - c.start_offset, ${SNIPPET_LENGTH}), ${SNIPPET_LENGTH})) as snippet
        from unnest($1::text[], $2::integer[]) with ordinality as hit (id, chunk_index, position)
        join ${memories} m on m.id = hit.id
        left join ${chunks} c on c.memory_id = hit.id and c.chunk_index = hit.chunk_index
        where ${isAlive("m")}
        order by hit.position`,
    },
    [hits.map((hit) => hit.id), hits.map((hit) => hit.chunkIndex ?? 0), withContent],
    options,
  );
  return rows.map((row) => ({
    memory: memoryFromRow(domain, row, row.content ?? ""),
    preview: row.preview,
    snippet: {
      text: row.snippet,
      start: row.snippet_start,
      end: row.snippet_start + codePoints(row.snippet),
    },
  }));
}

function codePoints(text: string): number {
  return [...text].length;
}
