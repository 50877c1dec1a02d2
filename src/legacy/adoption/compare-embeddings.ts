import { fromSql } from "pgvector";
import type { OllamaEmbedder } from "../../embedding/ollama/ollama-embedder.ts";
import type { Queryable } from "../../storage/database/database.ts";
import { quoteIdentifier } from "../quote-identifier.ts";
import { cosineSimilarity } from "../vector-math.ts";
import type { PlannedTable } from "./adoption-plan.ts";

/** Number of embeddings of each table that are compared. */
const SAMPLE_SIZE = 5;
/** Maximum length of a sampled text, because the old server's embedder truncated long texts silently. */
const MAX_SAMPLED_LENGTH = 1_000;
/** Minimum cosine similarity. Versions of the same model reach .999 or more, different models about 0. */
const SAME_MODEL_SIMILARITY = 0.98;

/** An old embedding that the model did not compute. */
export interface MismatchedEmbedding {
  readonly table: string;
  readonly id: string;
  /** Cosine similarity of the old embedding and the one computed today. */
  readonly similarity: number;
}

/**
 * Compares a sample of the old embeddings of each table, including the newest, with those that the model computes
 * today. Returns the first mismatch; undefined if all match.
 *
 * @param embedder an embedder that passes texts unchanged, as the old server did
 */
export async function findMismatchedEmbedding(
  database: Queryable,
  tables: readonly PlannedTable[],
  embedder: OllamaEmbedder,
  signal: AbortSignal,
): Promise<MismatchedEmbedding | undefined> {
  for (const { old } of tables) {
    const eligible = `from ${quoteIdentifier(old.table)} where vector_norm(embedding) > 0
      and char_length(content) between 1 and ${MAX_SAMPLED_LENGTH} and content ~ '\\S'`;
    const rows = await database.query<{ id: string; content: string; embedding: string }>({
      text: `(select id, content, embedding::text ${eligible} order by id desc limit 2)
        union
        (select id, content, embedding::text ${eligible} order by hashtext(id) limit ${SAMPLE_SIZE - 2})`,
    });
    if (rows.length === 0) continue;
    const embeddings = await embedder.embed(
      rows.map(({ content }) => content),
      "document",
      signal,
    );
    for (const [index, row] of rows.entries()) {
      const similarity = cosineSimilarity(
        fromSql(row.embedding) as number[],
        embeddings[index] ?? new Float32Array(),
      );
      if (!(similarity >= SAME_MODEL_SIMILARITY)) return { table: old.table, id: row.id, similarity };
    }
  }
  return undefined;
}
