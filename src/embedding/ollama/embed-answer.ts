import { invalidAnswer, OllamaError } from "./ollama-errors.ts";

/** What an answer to /api/embed must match. */
export interface AnswerExpectation {
  readonly texts: readonly string[];
  readonly model: string;
  /** Undefined if unknown: all embeddings of one answer must then have the same dimensions. */
  readonly dimensions: number | undefined;
}

/** Maximum dimensions accepted while the model's dimensions are unknown. */
export const MAX_UNKNOWN_DIMENSIONS = 8_192;

/** A vector with a smaller norm counts as zero. Real models return unit length, or a few units without normalization. */
const ZERO_NORM = 1e-6;
const MIN_NORM = 0.5;
const MAX_NORM = 2;

/**
 * Validates an answer of status 200 and returns its embeddings, each a Float32Array of unit length.
 *
 * @throws OllamaError that names the first problem.
 */
export function embeddingsFromAnswer(answer: unknown, expected: AnswerExpectation): Float32Array[] {
  if (typeof answer !== "object" || answer === null) throw invalidAnswer("not a JSON object");
  if ("error" in answer)
    throw invalidAnswer(`it has status 200 and an error: ${JSON.stringify(answer.error)?.slice(0, 200)}`);
  if ("model" in answer && answer.model !== expected.model) {
    throw invalidAnswer(`it names another model (${JSON.stringify(answer.model)?.slice(0, 100)})`);
  }
  if (!("embeddings" in answer) || !Array.isArray(answer.embeddings))
    throw invalidAnswer("it has no embeddings");
  const rows: readonly unknown[] = answer.embeddings;
  const count = expected.texts.length;
  if (rows.length !== count) throw invalidAnswer(`${rows.length} embeddings for ${count} texts`);

  const first = rows[0];
  const dimensions = expected.dimensions ?? (Array.isArray(first) ? first.length : 0);
  if (dimensions < 1 || (expected.dimensions === undefined && dimensions > MAX_UNKNOWN_DIMENSIONS))
    throw invalidAnswer(`embeddings of ${dimensions} dimensions`);

  let zeros = 0;
  const embeddings = rows.map((row) => {
    const { embedding, norm } = numbersFrom(row, dimensions);
    if (norm < ZERO_NORM) zeros += 1;
    else if (norm < MIN_NORM || norm > MAX_NORM)
      throw invalidAnswer(`an embedding of length ${norm.toPrecision(3)}`);
    for (let i = 0; i < dimensions; i++) embedding[i] = (embedding[i] ?? 0) / norm;
    return embedding;
  });
  // A NaN inside the engine arrives as zeros. If only some texts have zeros, those texts are the cause.
  if (zeros > 0 && zeros < count) {
    const what = zeros === 1 ? "a text" : `${zeros} texts`;
    throw new OllamaError("rejected", `the model returns only zeros for ${what}`);
  }
  if (zeros > 0) throw invalidAnswer("it has only zeros");
  return embeddings;
}

function numbersFrom(row: unknown, dimensions: number): { embedding: Float32Array; norm: number } {
  if (!Array.isArray(row)) throw invalidAnswer("an embedding is not a list");
  if (row.length !== dimensions)
    throw invalidAnswer(`an embedding of ${row.length} dimensions instead of ${dimensions}`);
  const embedding = new Float32Array(dimensions);
  let sum = 0;
  for (let i = 0; i < dimensions; i++) {
    const value: unknown = row[i];
    if (typeof value !== "number" || !Number.isFinite(value))
      throw invalidAnswer("an embedding contains a value that is not a finite number");
    embedding[i] = value;
    sum += value * value;
  }
  return { embedding, norm: Math.sqrt(sum) };
}

/** Detects a model that returns the same embedding for every text, also across answers. */
export interface DegenerationGuard {
  /** @throws OllamaError if two different texts have identical embeddings. */
  check(texts: readonly string[], embeddings: readonly Float32Array[]): void;
}

/** Equals the number of probe texts: a successful probe replaces everything that an invalid answer left. */
const REMEMBERED_EMBEDDINGS = 2;

/** @param prefixes Prefixes of the texts, which the comparison ignores. */
export function createDegenerationGuard(prefixes: readonly string[] = []): DegenerationGuard {
  let remembered: { readonly skeleton: string; readonly embedding: Float32Array }[] = [];
  return {
    check(texts, embeddings) {
      const fresh: typeof remembered = [];
      for (const [i, embedding] of embeddings.entries()) {
        const text = texts[i] ?? "";
        const prefix = prefixes.find((candidate) => candidate !== "" && text.startsWith(candidate)) ?? "";
        const skeleton = skeletonOf(text.slice(prefix.length));
        if (
          [...remembered, ...fresh].some((e) => e.skeleton !== skeleton && isEqual(e.embedding, embedding))
        ) {
          throw invalidAnswer("the same embedding for different texts");
        }
        fresh.push({ skeleton, embedding });
      }
      // Copies, because callers may modify their embeddings.
      const latest = fresh
        .slice(-REMEMBERED_EMBEDDINGS)
        .map((e) => ({ ...e, embedding: e.embedding.slice() }));
      remembered = [...remembered, ...latest].slice(-REMEMBERED_EMBEDDINGS);
    },
  };
}

/** Common vocabularies treat a longer word as one unknown token. */
const LONGEST_WORD = 64;

/**
 * Returns the part of a text that every vocabulary can distinguish: Latin letters and digits. Different texts with equal
 * skeletons may legitimately have equal embeddings, since an English vocabulary maps every Chinese word to the same unknown token.
 */
function skeletonOf(text: string): string {
  const words =
    text
      .normalize("NFKD")
      .replace(/\p{Mn}/gu, "")
      .toLowerCase()
      .match(/[a-z0-9]+/g) ?? [];
  return words.filter((word) => word.length <= LONGEST_WORD).join("");
}

function isEqual(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** Returns the cosine similarity of two embeddings of unit length; -1 if their dimensions differ. */
export function similarity(a: Float32Array | undefined, b: Float32Array | undefined): number {
  if (a === undefined || b === undefined || a.length !== b.length) return -1;
  return a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
}
