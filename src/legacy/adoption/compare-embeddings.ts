import type { OllamaEmbedder } from "../../embedding/ollama/ollama-embedder.ts";
import type { Queryable } from "../../storage/database/database.ts";
import type { PlannedTable } from "./adoption-plan.ts";
import { quoteIdentifier } from "./legacy-tables.ts";

/** How many embeddings of each table are made again to see whether they are the same. */
const SAMPLE = 5;
/** Texts up to this length: the old server's embedder cut long ones without a word. */
const SAMPLED_LENGTH = 1_000;
/** Two versions of an embedder agree to .999 and better, two models to about 0. */
const SAME_MODEL_SIMILARITY = 0.98;

/** A table whose embeddings were made by something else. */
export interface MismatchedEmbedding {
  readonly table: string;
  readonly id: string;
  /** Cosine of the old embedding and that of today. */
  readonly similarity: number;
}

/**
 * Whether the old embeddings are what this model makes of the contents, judged by some of each table, the newest
 * among them. Undefined: they are.
 *
 * @param embedder with a profile that passes texts on as they are, as the old server did.
 */
export async function findMismatchedEmbedding(
  database: Queryable,
  tables: readonly PlannedTable[],
  embedder: OllamaEmbedder,
  signal: AbortSignal,
): Promise<MismatchedEmbedding | undefined> {
  for (const { old } of tables) {
    const eligible = `from ${quoteIdentifier(old.table)} where vector_norm(embedding) > 0
      and char_length(content) between 1 and ${SAMPLED_LENGTH} and content ~ '\\S'`;
    const rows = await database.query<{ id: string; content: string; embedding: string }>({
      text: `(select id, content, embedding::text ${eligible} order by id desc limit 2)
        union
        (select id, content, embedding::text ${eligible} order by hashtext(id) limit ${SAMPLE - 2})`,
    });
    if (rows.length === 0) continue;
    const made = await embedder.embed(
      rows.map(({ content }) => content),
      "document",
      signal,
    );
    for (const [index, row] of rows.entries()) {
      const similarity = cosine(JSON.parse(row.embedding) as number[], made[index] ?? new Float32Array());
      if (!(similarity >= SAME_MODEL_SIMILARITY)) return { table: old.table, id: row.id, similarity };
    }
  }
  return undefined;
}

function cosine(a: readonly number[], b: Float32Array): number {
  if (a.length !== b.length) return 0;
  return a.reduce((sum, value, n) => sum + value * (b[n] ?? 0), 0) / (Math.hypot(...a) * Math.hypot(...b));
}
