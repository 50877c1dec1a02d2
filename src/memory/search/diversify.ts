import type { HitEmbedding } from "../model/memory-repository.ts";
import type { RankedHit } from "./fuse-scores.ts";

/**
 * Hits that are considered, the best: all that one domain gives for limits up to 100, and a bound for the time that
 * comparing them takes (100 of 500 with 768 dimensions: 40 million multiplications).
 */
export const DIVERSE_HITS = 500;

/**
 * Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the next hit is the one with the largest
 * (1 - diversity) * relevance - diversity * similarity, where relevance is its score as a share of the best one, and
 * similarity that to the most similar hit before it. Hits without an embedding, of another embedding version or of opposite
 * meaning have none. Ties go by the ranking. The first `limit` are so chosen, all others follow as they were ranked.
 *
 * @param diversity above 0, to 1
 */
export function diversify(
  ranked: readonly RankedHit[],
  limit: number,
  diversity: number,
  embeddingOf: (hit: RankedHit) => HitEmbedding | undefined,
): RankedHit[] {
  const best = ranked[0]?.score ?? 0;
  const left = ranked.slice(0, DIVERSE_HITS).map((hit) => ({
    hit,
    embedding: normalized(embeddingOf(hit)),
    relevance: best > 0 ? Math.max(0, hit.score / best) : 0,
    similarity: 0,
  }));
  const chosen: RankedHit[] = [];
  while (left.length > 0 && chosen.length < limit) {
    let next = 0;
    let most = Number.NEGATIVE_INFINITY;
    for (const [index, { relevance, similarity }] of left.entries()) {
      const worth = (1 - diversity) * relevance - diversity * similarity;
      if (worth > most) [next, most] = [index, worth];
    }
    for (const { hit, embedding } of left.splice(next, 1)) {
      chosen.push(hit);
      for (const other of left) {
        other.similarity = Math.max(other.similarity, similarityOf(embedding, other.embedding));
      }
    }
  }
  return [...chosen, ...left.map(({ hit }) => hit), ...ranked.slice(DIVERSE_HITS)];
}

/** Imported embeddings may have any length. */
function normalized(embedding: HitEmbedding | undefined): HitEmbedding | undefined {
  if (embedding === undefined) return undefined;
  const length = Math.sqrt(dot(embedding.vector, embedding.vector));
  if (length === 0) return undefined;
  return { ...embedding, vector: embedding.vector.map((value) => value / length) };
}

function similarityOf(a: HitEmbedding | undefined, b: HitEmbedding | undefined): number {
  return a === undefined || b === undefined || a.version !== b.version ? 0 : dot(a.vector, b.vector);
}

/** Without an iterator, and four at a time: this is where the time goes. */
function dot(a: Float32Array, b: Float32Array): number {
  let [first, second, third, fourth] = [0, 0, 0, 0];
  for (let i = 0; i < a.length; i += 4) {
    first += (a[i] ?? 0) * (b[i] ?? 0);
    second += (a[i + 1] ?? 0) * (b[i + 1] ?? 0);
    third += (a[i + 2] ?? 0) * (b[i + 2] ?? 0);
    fourth += (a[i + 3] ?? 0) * (b[i + 3] ?? 0);
  }
  return first + second + third + fourth;
}
