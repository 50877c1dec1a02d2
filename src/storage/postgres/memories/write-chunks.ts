import type { ContentEmbedding } from "../../../memory/model/draft.ts";
import type { Parameter, Queryable } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";

/**
 * Rows of one insert: 600 KB for 768 dimensions. Each vector is a separate parameter, because arrays of vectors cannot
 * be sent in binary.
 */
const ROWS_PER_STATEMENT = 200;
const PARAMETERS_PER_ROW = 6;

/** A memory's embedding. */
export interface MemoryEmbedding {
  readonly id: string;
  readonly embedding: ContentEmbedding;
}

/** Replaces chunks 1..n of a memory. Chunk 0 is in the row of the memory. */
export async function replaceChunks(
  database: Queryable,
  domain: string,
  id: string,
  embedding: ContentEmbedding | undefined,
): Promise<void> {
  const { chunks } = domainTables(domain);
  await database.query(
    { name: `delete_chunks:${domain}`, writes: true, text: `delete from ${chunks} where memory_id = $1` },
    [id],
  );
  if (embedding !== undefined) await insertChunks(database, domain, [{ id, embedding }]);
}

/** Inserts chunks 1..n of memories that have none. */
export async function insertChunks(
  database: Queryable,
  domain: string,
  embedded: readonly MemoryEmbedding[],
): Promise<void> {
  const { chunks } = domainTables(domain);
  const rows = embedded.flatMap(({ id, embedding }) =>
    embedding.chunks
      .map((chunk, index): Parameter[] => [
        id,
        index,
        chunk.start,
        chunk.end,
        chunk.vector,
        embedding.version,
      ])
      .slice(1),
  );
  for (let first = 0; first < rows.length; first += ROWS_PER_STATEMENT) {
    const some = rows.slice(first, first + ROWS_PER_STATEMENT);
    const values = some.map((_, index) => {
      const n = index * PARAMETERS_PER_ROW;
      return `($${n + 1}::text, $${n + 2}::integer, $${n + 3}::integer, $${n + 4}::integer, $${n + 5}::vector,
        $${n + 6}::integer)`;
    });
    await database.query(
      {
        writes: true,
        text: `insert into ${chunks}
            (memory_id, chunk_index, start_offset, end_offset, embedding, embedding_version)
          values ${values.join(", ")}`,
      },
      some.flat(),
    );
  }
}
