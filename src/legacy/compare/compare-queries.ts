import { readFile } from "node:fs/promises";
import { z } from "zod";
import { messageOf } from "../../util/error-message.ts";
import { StartupError } from "../../util/startup-error.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { MEMORIES } from "../readers/read-database.ts";
import { decodeText } from "../readers/stored-value.ts";

/** A query to run on both sides. */
export interface CompareQuery {
  readonly text: string;
  /** Number of memories to compare in each result. */
  readonly limit: number;
  /** False for text search, as with `use_vector=False` of the old tool. */
  readonly useVector: boolean;
  /** Embedding from the old embedder; undefined to use the configured model. */
  readonly embedding: Float32Array | undefined;
}

const sparse = z.record(z.string().regex(/^\d{1,5}$/), z.number());
const entry = z.union([
  z.string(),
  z.object({
    query: z.string(),
    limit: z.number().int().min(1).max(1_000).optional(),
    use_vector: z.boolean().optional(),
    embedding: z.array(z.number()).optional(),
    query_embedding_raw_nonzero: sparse.nullish(),
  }),
]);
const file = z.union([z.array(entry), z.object({ queries: z.array(entry) })]);

/**
 * Reads queries from a file: lines of text, or a JSON list of texts and objects. An object has `query` and optionally
 * `limit`, `use_vector` and `embedding` (a list of numbers) or `query_embedding_raw_nonzero` (numbers by position).
 *
 * @throws StartupError
 */
export async function readQueries(
  path: string,
  { limit, dimensions }: { readonly limit: number; readonly dimensions: number },
): Promise<CompareQuery[]> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new StartupError(`cannot read ${path}: ${messageOf(error)}`);
  });
  if (!/^\s*[[{]/.test(text)) {
    const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
    return lines.map((line) => ({ text: line, limit, useVector: true, embedding: undefined }));
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new StartupError(`${path} is not JSON: ${messageOf(error)}`);
  }
  const read = file.safeParse(json);
  if (!read.success)
    throw new StartupError(
      `${path} does not contain queries: ${z.prettifyError(read.error)}`.replaceAll("\n", " "),
    );
  const entries = Array.isArray(read.data) ? read.data : read.data.queries;
  return entries.map((one) => {
    const query = typeof one === "string" ? { query: one } : one;
    return {
      text: query.query,
      limit: query.limit ?? limit,
      useVector: query.use_vector ?? true,
      embedding:
        query.embedding !== undefined
          ? Float32Array.from(query.embedding)
          : query.query_embedding_raw_nonzero
            ? Float32Array.from({ length: dimensions }, (_, n) => query.query_embedding_raw_nonzero?.[n] ?? 0)
            : undefined,
    };
  });
}

/** Number of words that a query takes from a memory. */
const SAMPLED_WORDS = 12;

/** Creates queries from the beginnings of memories, evenly spread over the order in which they were stored. */
export function sampleQueries(
  source: LegacySource,
  { count, limit }: { readonly count: number; readonly limit: number },
): CompareQuery[] {
  const every = Math.max(1, Math.floor(source.database.count(MEMORIES) / count));
  const queries: CompareQuery[] = [];
  let row = 0;
  for (const { content = null } of source.database.rows(MEMORIES)) {
    if (row++ % every !== 0 || queries.length >= count) continue;
    const text = decodeText(content).text.trim().split(/\s+/).slice(0, SAMPLED_WORDS).join(" ").slice(0, 500);
    if (text !== "") queries.push({ text, limit, useVector: true, embedding: undefined });
  }
  return queries;
}
