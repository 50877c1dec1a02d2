import type { EmbeddedChunk } from "../../../memory/model/draft.ts";
import type { Memory } from "../../../memory/model/memory.ts";
import type { Queryable, QueryOptions } from "../../database/database.ts";
import { vectorFromBytes } from "../../database/wire-values.ts";
import { domainTables } from "../domains/domain-tables.ts";

/** Implements MemoryStore.readEmbeddings: reads the chunks of memories with their embeddings. */
export async function readEmbeddings(
  database: Queryable,
  domain: string,
  read: readonly Pick<Memory, "id" | "version">[],
  embeddingVersion: number,
  options?: QueryOptions,
): Promise<Map<string, EmbeddedChunk[]>> {
  const { memories, chunks } = domainTables(domain);
  const rows = await database.query<{
    id: string;
    start_offset: number;
    end_offset: number;
    vector: Uint8Array;
  }>(
    {
      name: `read_embeddings:${domain}`,
      text: `with wanted as (
          select m.id, m.content, m.embedding
          from unnest($1::text[], $2::bigint[]) as seen (id, version)
          join ${memories} m on m.id = seen.id and m.version = seen.version
          where m.embedding_state = 'ready' and m.embedding_version = $3 and m.embedding is not null
        )
        select w.id, 0 as chunk_index, 0 as start_offset,
          coalesce(second.start_offset, char_length(w.content)) as end_offset,
          vector_send(w.embedding) as vector
        from wanted w left join ${chunks} second on second.memory_id = w.id and second.chunk_index = 1
        union all
        select c.memory_id, c.chunk_index, c.start_offset, c.end_offset, vector_send(c.embedding)
        from wanted w join ${chunks} c on c.memory_id = w.id and c.embedding_version = $3
        order by 1, 2`,
    },
    [read.map(({ id }) => id), read.map(({ version }) => String(version)), embeddingVersion],
    options,
  );
  const found = new Map<string, EmbeddedChunk[]>();
  for (const { id, start_offset: start, end_offset: end, vector } of rows) {
    const chunk = { start, end, vector: vectorFromBytes(vector) };
    const before = found.get(id);
    if (before === undefined) found.set(id, [chunk]);
    else before.push(chunk);
  }
  return found;
}
