import type { Parameter, Queryable } from "../database/database.ts";
import type { ContentEmbedding } from "../memory-repository.ts";
import { domainTables } from "./domain-tables.ts";

/**
 * Rows of one insert: a vector each is a parameter of its own, since arrays of vectors cannot be sent in binary.
 * 200 rows of 768 dimensions are 600 KB.
 */
const ROWS_PER_STATEMENT = 200;
const PARAMETERS_PER_ROW = 4;

/** Writes chunks 1..n of a memory (chunk 0 is in its row) in place of any it had. */
export async function replaceChunks(
  database: Queryable,
  domain: string,
  id: string,
  embedding: ContentEmbedding | undefined,
): Promise<void> {
  const { chunks } = domainTables(domain);
  await database.query(
    { name: `delete_chunks:${domain}`, text: `delete from ${chunks} where memory_id = $1` },
    [id],
  );
  if (embedding === undefined) return;

  for (let first = 1; first < embedding.chunks.length; first += ROWS_PER_STATEMENT) {
    const values: string[] = [];
    const parameters: Parameter[] = [id, embedding.version];
    for (const [offset, chunk] of embedding.chunks.slice(first, first + ROWS_PER_STATEMENT).entries()) {
      const n = 2 + offset * PARAMETERS_PER_ROW;
      values.push(
        `($1, $${n + 1}::integer, $${n + 2}::integer, $${n + 3}::integer, $${n + 4}::vector, $2::integer)`,
      );
      parameters.push(first + offset, chunk.start, chunk.end, chunk.vector);
    }
    await database.query(
      {
        text: `insert into ${chunks}
            (memory_id, chunk_index, start_offset, end_offset, embedding, embedding_version)
          values ${values.join(", ")}`,
      },
      parameters,
    );
  }
}
