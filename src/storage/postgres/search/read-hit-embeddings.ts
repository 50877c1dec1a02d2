import type { Candidate, HitEmbedding } from "../../../memory/model/search-index.ts";
import type { Queryable, QueryOptions } from "../../database/database.ts";
import { vectorFromBytes } from "../../database/wire-values.ts";
import { domainTables } from "../domains/domain-tables.ts";

/** Reads the embedding of one chunk of each memory, in any order. The first chunk is in the row of the memory. */
export async function readHitEmbeddings(
  database: Queryable,
  domain: string,
  hits: readonly Pick<Candidate, "id" | "chunkIndex">[],
  options?: QueryOptions,
): Promise<HitEmbedding[]> {
  const { memories, chunks } = domainTables(domain);
  const rows = await database.query<{ id: string; version: number; vector: Uint8Array }>(
    {
      name: `read_hit_embeddings:${domain}`,
      text: `with hit as (
          select id, chunk_index from unnest($1::text[], $2::integer[]) as hit (id, chunk_index)
        )
        select m.id, m.embedding_version as version, vector_send(m.embedding) as vector
        from hit join ${memories} m on m.id = hit.id
        where hit.chunk_index = 0 and m.embedding is not null and m.embedding_version is not null
        union all
        select c.memory_id, c.embedding_version, vector_send(c.embedding)
        from hit join ${chunks} c on c.memory_id = hit.id and c.chunk_index = hit.chunk_index
        where hit.chunk_index > 0`,
    },
    [hits.map(({ id }) => id), hits.map(({ chunkIndex }) => chunkIndex ?? 0)],
    options,
  );
  return rows.map(({ id, version, vector }) => ({ id, version, vector: vectorFromBytes(vector) }));
}
