import { hash } from "node:crypto";
import { roleAndText, stem, stopWords, synonymGroupOf, wordsOf } from "./words.ts";

const weights = {
  constant: 0.35,
  word: 0.8,
  stopWord: 0.05,
  synonymGroup: 1.0,
  bigram: 0.25,
  trigram: 0.12,
} as const;

/** Noise, relative to the length of the vector, on a text without the task prefix its model was trained with. */
const missingPrefixNoise = 0.66;

/** Directions kept per space: about 25 MB at 768 dimensions. The oldest goes first. */
const maxCachedDirections = 16_384;

/** What decides about the vectors of a space; two spaces with equal options are the same space. */
export interface EmbeddingSpaceOptions {
  /** Another seed is another space. */
  readonly seed: string;
  readonly dimensions: number;
  /** Whether the model wants a task prefix on every text: without one its vectors are noisy. */
  readonly wantsPrefix: boolean;
  /** Whether all CJK characters are the same token. */
  readonly cjkUnknown: boolean;
}

/** Makes vectors of unit length, near for texts that share words, synonyms or spelling. */
export interface FakeEmbeddingSpace {
  /** Same text, same bytes: in any order, batch and process. */
  embed(text: string, options?: { readonly caseBug?: boolean }): Float64Array;
}

/** Creates a space. It holds nothing but a bounded cache. */
export function createEmbeddingSpace(options: EmbeddingSpaceOptions): FakeEmbeddingSpace {
  const { seed, dimensions, wantsPrefix, cjkUnknown } = options;
  const directions = new Map<string, Int16Array>();

  const directionOf = (feature: string): Int16Array => {
    const known = directions.get(feature);
    if (known) return known;
    const made = makeDirection(`${seed}\n${feature}`, dimensions);
    if (directions.size >= maxCachedDirections) {
      for (const oldest of directions.keys()) {
        directions.delete(oldest);
        break;
      }
    }
    directions.set(feature, made);
    return made;
  };

  return {
    embed(text, { caseBug = false } = {}) {
      const { role, text: bare } = roleAndText(text);
      const sum = new Float64Array(dimensions);
      for (const [feature, weight] of featuresOf(wordsOf(bare, { cjkUnknown, caseBug }))) {
        add(sum, directionOf(feature), weight);
      }
      if (wantsPrefix && role === "none") {
        const noise = makeDirection(`${seed}\nnoise\n${text}`, dimensions);
        add(sum, noise, (missingPrefixNoise * lengthOf(sum)) / lengthOf(noise));
      }
      return normalized(sum);
    },
  };
}

/** Features of a text with their weights. A feature seen n times weighs the root of n as much. */
function featuresOf(words: readonly string[]): Map<string, number> {
  const squares = new Map<string, number>();
  const count = (feature: string, weight: number) =>
    squares.set(feature, (squares.get(feature) ?? 0) + weight * weight);

  count("constant", weights.constant);
  let previous: string | undefined;
  for (const word of words) {
    const wordStem = stem(word);
    const stop = stopWords.has(word);
    count(`word ${wordStem}`, stop ? weights.stopWord : weights.word);
    const group = synonymGroupOf(wordStem);
    if (group !== undefined) count(`group ${group}`, weights.synonymGroup);
    if (previous !== undefined) count(`bigram ${previous} ${wordStem}`, weights.bigram);
    previous = wordStem;
    if (!stop)
      for (let at = 0; at + 3 <= word.length; at++)
        count(`trigram ${word.slice(at, at + 3)}`, weights.trigram);
  }
  for (const [feature, square] of squares) squares.set(feature, Math.sqrt(square));
  return squares;
}

/**
 * A direction that only its name decides: sha256 seeds a xorshift128, and the sum of the four bytes of each
 * word is nearly normally distributed. Integers only, so every machine makes the same.
 */
function makeDirection(name: string, dimensions: number): Int16Array {
  const state = hash("sha256", name, "buffer");
  let x = state.readInt32LE(0);
  let y = state.readInt32LE(4);
  let z = state.readInt32LE(8);
  let w = state.readInt32LE(12);
  const direction = new Int16Array(dimensions);
  for (let i = 0; i < dimensions; i++) {
    const t = x ^ (x << 11);
    x = y;
    y = z;
    z = w;
    w = w ^ (w >>> 19) ^ t ^ (t >>> 8);
    direction[i] = (w & 255) + ((w >>> 8) & 255) + ((w >>> 16) & 255) + (w >>> 24) - 510;
  }
  return direction;
}

function add(sum: Float64Array, direction: Int16Array, weight: number): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) + weight * (direction[i] ?? 0);
}

function lengthOf(vector: ArrayLike<number>): number {
  let square = 0;
  for (let i = 0; i < vector.length; i++) square += (vector[i] ?? 0) ** 2;
  return Math.sqrt(square);
}

/** The vector at unit length, as a single-precision server prints it: short decimals. A zero vector stays zero. */
export function normalized(vector: Float64Array): Float64Array {
  const length = lengthOf(vector);
  return vector.map((value) => singlePrecision(length < 1e-12 ? 0 : value / length));
}

/** Ollama's `dimensions`: the first ones, at unit length again. */
export function shortened(vector: Float64Array, dimensions: number): Float64Array {
  return normalized(vector.slice(0, dimensions));
}

/** Every vector turned by the same `angle` (radians): similarities within stay, those with before fall to its cosine. */
export function rotated(vector: Float64Array, angle: number): Float64Array {
  const turned = vector.slice();
  for (let i = 0; i + 1 < vector.length; i += 2) {
    const [a = 0, b = 0] = [vector[i], vector[i + 1]];
    turned[i] = singlePrecision(a * Math.cos(angle) - b * Math.sin(angle));
    turned[i + 1] = singlePrecision(a * Math.sin(angle) + b * Math.cos(angle));
  }
  return turned;
}

/** Ten decimals of a single-precision number: near enough to what Go prints, and half as long as a double's digits. */
export function singlePrecision(value: number): number {
  return Math.round(Math.fround(value) * 1e10) / 1e10;
}

/** Cosine similarity, for tests of closeness. */
export function cosineSimilarity(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let dot = 0;
  for (let i = 0; i < a.length; i++) dot += (a[i] ?? 0) * (b[i] ?? 0);
  return dot / (lengthOf(a) * lengthOf(b));
}
