import { invalidAnswer, OllamaError } from "./ollama-errors.ts";

/** What an answer to /api/embed has to fit. */
export interface AnswerExpectation {
  readonly texts: readonly string[];
  readonly model: string;
  /** Undefined while unknown: then all embeddings of one answer must have one length. */
  readonly dimensions: number | undefined;
}

/** Longest embedding believed while the model's dimensions are unknown. */
export const MAX_UNKNOWN_DIMENSIONS = 8_192;

/** Below this a vector counts as zero. Real models give unit length, or a few units where not normalised. */
const ZERO_NORM = 1e-6;
const MIN_NORM = 0.5;
const MAX_NORM = 2;

/**
 * Checks an answer of status 200 before anything in it is believed, and returns its embeddings at unit length.
 *
 * @throws OllamaError naming the first thing that is wrong.
 */
export function embeddingsFromAnswer(answer: unknown, expected: AnswerExpectation): Float32Array[] {
  if (typeof answer !== "object" || answer === null) throw invalidAnswer("not a JSON object");
  if ("error" in answer)
    throw invalidAnswer(`an error with status 200: ${JSON.stringify(answer.error)?.slice(0, 200)}`);
  if ("model" in answer && answer.model !== expected.model) {
    throw invalidAnswer(`it is about another model (${JSON.stringify(answer.model)?.slice(0, 100)})`);
  }
  if (!("embeddings" in answer) || !Array.isArray(answer.embeddings))
    throw invalidAnswer("no embeddings in it");
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
  // A NaN inside the engine arrives as zeros. Zeros for some texts: those are to blame. For all: unclear.
  if (zeros > 0 && zeros < count) {
    const what = zeros === 1 ? "a text" : `${zeros} texts`;
    throw new OllamaError("rejected", `the model makes nothing but zeros of ${what}`);
  }
  if (zeros > 0) throw invalidAnswer("nothing but zeros");
  return embeddings;
}

function numbersFrom(row: unknown, dimensions: number): { embedding: Float32Array; norm: number } {
  if (!Array.isArray(row)) throw invalidAnswer("an embedding that is no list");
  if (row.length !== dimensions)
    throw invalidAnswer(`an embedding of ${row.length} dimensions instead of ${dimensions}`);
  const embedding = new Float32Array(dimensions);
  let sum = 0;
  for (let i = 0; i < dimensions; i++) {
    const value: unknown = row[i];
    if (typeof value !== "number" || !Number.isFinite(value))
      throw invalidAnswer("an embedding with no number in it");
    embedding[i] = value;
    sum += value * value;
  }
  return { embedding, norm: Math.sqrt(sum) };
}

/** Finds a model that gives one embedding for everything, also across answers. */
export interface DegenerationGuard {
  /** @throws OllamaError if two texts that differ have identical embeddings. */
  check(texts: readonly string[], embeddings: readonly Float32Array[]): void;
}

/** As many as the embedder's probe has texts: a probe that passes wipes out whatever a bad answer has left. */
const REMEMBERED_EMBEDDINGS = 2;

/** @param prefixes What the texts may begin with beside their own words: it does not make them different. */
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
      // Copies, because the callers may change theirs.
      const latest = fresh
        .slice(-REMEMBERED_EMBEDDINGS)
        .map((e) => ({ ...e, embedding: e.embedding.slice() }));
      remembered = [...remembered, ...latest].slice(-REMEMBERED_EMBEDDINGS);
    },
  };
}

/** Words longer than this are one unknown token to the usual vocabularies. */
const LONGEST_WORD = 64;

/**
 * What of a text any vocabulary can tell apart: Latin letters and digits. Different texts with equal skeletons
 * may have equal embeddings for good reason: to an English vocabulary each Chinese word is the same unknown one.
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

/** Cosine similarity of two embeddings of unit length; of different lengths they are not similar at all. */
export function similarity(a: Float32Array | undefined, b: Float32Array | undefined): number {
  if (a === undefined || b === undefined || a.length !== b.length) return -1;
  return a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
}
