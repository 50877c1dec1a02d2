import type { Queryable } from "../../storage/database/database.ts";
import { normalizedMetadata } from "./legacy-tables.ts";

/** How the columns of adopted rows are filled. */
export interface FillOptions {
  /** Embedding version to assign to the old embeddings. Undefined to re-embed every memory. */
  readonly keepAsVersion: number | undefined;
  /** Maximum length of a text that is one chunk, in UTF-16 code units. */
  readonly maxChunkLength: number;
  readonly countChunks: (content: string) => number;
  readonly signal: AbortSignal;
  /** Called after each batch of rows. */
  readonly onRows?: (rows: number) => void;
}

/** Counts of one run. Rows that an interrupted run filled are not included. */
export interface FilledRows {
  readonly memories: number;
  /** Memories whose old embedding was kept, scaled to unit length. */
  readonly normalised: number;
  /** Memories that will be embedded in the background. */
  readonly pending: number;
  readonly changedMetadata: number;
}

/** Number of rows that one statement writes. Concurrent writers wait for it at most. */
const BATCH_SIZE = 200;

/**
 * Fills content hash, text search column, number of chunks and embedding state, in batches. Skips rows that have a
 * content hash, because they are done.
 */
export async function fillColumns(
  session: Queryable,
  table: string,
  { keepAsVersion, maxChunkLength, countChunks, signal, onRows }: FillOptions,
): Promise<FilledRows> {
  const sums = { memories: 0, normalised: 0, pending: 0, changedMetadata: 0 };
  for (let after = ""; ; ) {
    signal.throwIfAborted();
    const batch = await session.query<{ id: string; content: string | null }>(
      {
        text: `select id, case when char_length(content) * 2 > $2 then content end as content
          from ${table} where id > $1 order by id limit ${BATCH_SIZE}`,
      },
      [after, maxChunkLength],
    );
    const last = batch.at(-1);
    if (last === undefined) return sums;
    const rows = await session.query<{ normalised: boolean; changed: boolean }>(
      {
        // Writing the content fires the trigger that computes the hash.
        writes: true,
        text: `update ${table} m set
            content = m.content,
            metadata = ${normalizedMetadata("m")},
            chunk_count = b.chunks,
            created_at = coalesce(m.created_at, m.updated_at, now()),
            updated_at = coalesce(m.updated_at, m.created_at, now()),
            embedding = case when ${keepsEmbedding} then l2_normalize(m.embedding) end,
            embedding_state = case when ${keepsEmbedding} then 'ready' else 'pending' end,
            embedding_version = case when ${keepsEmbedding} then $3::integer end
          from unnest($1::text[], $2::integer[]) as b (id, chunks), ${table} before
          where m.id = b.id and before.id = b.id and m.content_hash is null
          returning m.embedding is not null as normalised, m.metadata <> before.metadata as changed`,
      },
      [
        batch.map(({ id }) => id),
        batch.map(({ content }) => (content === null ? 1 : countChunks(content))),
        keepAsVersion ?? null,
      ],
    );
    sums.memories += rows.length;
    for (const { normalised, changed } of rows) {
      if (normalised) sums.normalised++;
      else sums.pending++;
      if (changed) sums.changedMetadata++;
    }
    onRows?.(rows.length);
    after = last.id;
  }
}

/** SQL condition for keeping an embedding: it is not zero, and the text is one chunk. */
const keepsEmbedding = "$3::integer is not null and vector_norm(m.embedding) > 0 and b.chunks = 1";
