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

/** Noise, relative to the vector's length, for a text without the task prefix of its model. */
const missingPrefixNoise = 0.66;

/** Maximum number of cached word vectors per space: at most 25 MB at 768 dimensions. The oldest is evicted first. */
const maxCachedWords = 8192;

/** The options of a space; two spaces with equal options are the same space. */
export interface EmbeddingSpaceOptions {
  /** Another seed is another space. */
  readonly seed: string;
  readonly dimensions: number;
  /** Whether the model needs a task prefix on every text: without one, vectors are noisy. */
  readonly wantsPrefix: boolean;
  /** Whether all CJK characters are the same token. */
  readonly cjkUnknown: boolean;
}

/** Computes unit vectors that are close for texts with shared words, synonyms or spelling. */
export interface FakeEmbeddingSpace {
  /** Returns the same bytes for the same text, in any order, batch and process. */
  embed(text: string, options?: { readonly caseBug?: boolean }): Float64Array;
}

/** Creates a space. It holds only a bounded cache. */
export function createEmbeddingSpace(options: EmbeddingSpaceOptions): FakeEmbeddingSpace {
  const { seed, dimensions, wantsPrefix, cjkUnknown } = options;
  const cache = new Map<string, Float32Array>();

  const vectorOfWord = (word: string): Float32Array => {
    const known = cache.get(word);
    if (known) return known;
    const made = new Float32Array(dimensions);
    for (const [feature, weight] of featuresOf(word)) addDirection(made, `${seed}\n${feature}`, weight);
    if (cache.size >= maxCachedWords) {
      for (const oldest of cache.keys()) {
        cache.delete(oldest);
        break;
      }
    }
    cache.set(word, made);
    return made;
  };

  return {
    embed(text, { caseBug = false } = {}) {
      const { role, text: bare } = roleAndText(text);
      const words = wordsOf(bare, { cjkUnknown, caseBug });
      const sum = new Float64Array(dimensions);
      addDirection(sum, `${seed}\nconstant`, weights.constant);
      for (const [word, count] of counted(words)) add(sum, vectorOfWord(word), Math.sqrt(count));
      for (const [pair, count] of counted(bigrams(words))) {
        addDirection(sum, `${seed}\nbigram ${pair}`, weights.bigram * Math.sqrt(count));
      }
      if (wantsPrefix && role === "none") {
        const noise = new Float64Array(dimensions);
        addDirection(noise, `${seed}\nnoise ${text}`, 1);
        add(sum, noise, (missingPrefixNoise * lengthOf(sum)) / lengthOf(noise));
      }
      return normalized(sum);
    },
  };
}

/** Counts occurrences, in the order of the first one. */
function counted(items: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1);
  return counts;
}

function* bigrams(words: readonly string[]): Generator<string> {
  let previous: string | undefined;
  for (const word of words.map(stem)) {
    if (previous !== undefined) yield `${previous} ${word}`;
    previous = word;
  }
}

/** Returns the features of a word: its stem, its synonym group, its trigrams. */
function* featuresOf(word: string): Generator<readonly [string, number]> {
  const wordStem = stem(word);
  const stop = stopWords.has(word);
  yield [`word ${wordStem}`, stop ? weights.stopWord : weights.word];
  const group = synonymGroupOf(wordStem);
  if (group !== undefined) yield [`group ${group}`, weights.synonymGroup];
  if (stop) return;
  for (let at = 0; at + 3 <= word.length; at++) yield [`trigram ${word.slice(at, at + 3)}`, weights.trigram];
}

/**
 * Adds the direction of a name: sha256 seeds a xorshift128, and the sum of the four bytes of each of its words is
 * nearly normally distributed (deviation 148). It uses only integers, so the result is the same on every machine.
 */
function addDirection(sum: Float64Array | Float32Array, name: string, weight: number): void {
  const state = hash("sha256", name, "buffer");
  let x = state.readInt32LE(0);
  let y = state.readInt32LE(4);
  let z = state.readInt32LE(8);
  let w = state.readInt32LE(12);
  for (let i = 0; i < sum.length; i++) {
    const t = x ^ (x << 11);
    x = y;
    y = z;
    z = w;
    w = w ^ (w >>> 19) ^ t ^ (t >>> 8);
    const value = (w & 255) + ((w >>> 8) & 255) + ((w >>> 16) & 255) + (w >>> 24) - 510;
    sum[i] = (sum[i] ?? 0) + weight * value;
  }
}

function add(sum: Float64Array, vector: Float64Array | Float32Array, weight: number): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) + weight * (vector[i] ?? 0);
}

function lengthOf(vector: ArrayLike<number>): number {
  let square = 0;
  for (let i = 0; i < vector.length; i++) square += (vector[i] ?? 0) ** 2;
  return Math.sqrt(square);
}

/** Normalizes a vector and prints it like a single-precision server: short decimals. A zero vector stays zero. */
export function normalized(vector: Float64Array): Float64Array {
  const length = lengthOf(vector);
  return vector.map((value) => singlePrecision(length < 1e-12 ? 0 : value / length));
}

/** Applies Ollama's `dimensions`: the first ones, normalized again. */
export function shortened(vector: Float64Array, dimensions: number): Float64Array {
  return normalized(vector.slice(0, dimensions));
}

/** Rotates every vector by the same `angle` (radians). Only similarities to earlier vectors fall, to its cosine. */
export function rotated(vector: Float64Array, angle: number): Float64Array {
  const turned = vector.slice();
  for (let i = 0; i + 1 < vector.length; i += 2) {
    const [a = 0, b = 0] = [vector[i], vector[i + 1]];
    turned[i] = singlePrecision(a * Math.cos(angle) - b * Math.sin(angle));
    turned[i + 1] = singlePrecision(a * Math.sin(angle) + b * Math.cos(angle));
  }
  return turned;
}

/** Returns a vector of other dimensions but the same norm, as another model would. */
export function ofLength(vector: Float64Array, length: number): Float64Array {
  const other = Float64Array.from({ length }, (_, index) => vector[index % vector.length] ?? 0);
  return shortened(other, length);
}

/** Scales a vector and prints it in single precision. */
export function scaled(vector: Float64Array, scale: number): Float64Array {
  return vector.map((value) => singlePrecision(value * scale));
}

/** Prints ten decimals of a single-precision number: close to Go's output, and half as long as a double's digits. */
function singlePrecision(value: number): number {
  return Math.round(Math.fround(value) * 1e10) / 1e10;
}

/** Returns the cosine similarity, for tests of closeness. */
export function cosineSimilarity(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let dot = 0;
  for (let i = 0; i < a.length; i++) dot += (a[i] ?? 0) * (b[i] ?? 0);
  return dot / (lengthOf(a) * lengthOf(b));
}
