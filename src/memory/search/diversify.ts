import type { HitEmbedding } from "../model/search-index.ts";
import type { RankedHit } from "./fuse-scores.ts";

/**
 * Number of best hits to diversify: everything that one domain returns for limits up to 100. It also bounds the time for the
 * comparisons; choosing 100 of 500 hits with 768 dimensions takes 40 million multiplications.
 */
export const DIVERSE_HITS = 500;

/**
 * Reorders hits by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).
 *
 * The next hit is the one with the largest (1 - diversity) * relevance - diversity * similarity. Relevance is the hit's score as
 * a share of the best score; similarity is the cosine similarity to the most similar hit before it. The similarity is 0 for hits
 * without an embedding, between two embedding versions, and where it would be negative. Ties keep the order of the ranking. The
 * first `limit` hits are chosen this way; all others follow in the order of the ranking.
 *
 * @param diversity Above 0, up to 1.
 */
export function diversify(
  ranked: readonly RankedHit[],
  limit: number,
  diversity: number,
  embeddingOf: (hit: RankedHit) => HitEmbedding | undefined,
): RankedHit[] {
  const best = ranked[0]?.score ?? 0;
  const remaining = ranked.slice(0, DIVERSE_HITS).map((hit) => ({
    hit,
    embedding: normalized(embeddingOf(hit)),
    relevance: best > 0 ? Math.max(0, hit.score / best) : 0,
    similarity: 0,
  }));
  const chosen: RankedHit[] = [];
  while (remaining.length > 0 && chosen.length < limit) {
    let next = 0;
    let most = Number.NEGATIVE_INFINITY;
    for (const [index, { relevance, similarity }] of remaining.entries()) {
      const worth = (1 - diversity) * relevance - diversity * similarity;
      if (worth > most) [next, most] = [index, worth];
    }
    for (const { hit, embedding } of remaining.splice(next, 1)) {
      chosen.push(hit);
      for (const other of remaining) {
        other.similarity = Math.max(other.similarity, similarityOf(embedding, other.embedding));
      }
    }
  }
  return [...chosen, ...remaining.map(({ hit }) => hit), ...ranked.slice(DIVERSE_HITS)];
}

/** Returns the embedding at unit length, since imported embeddings may have any length. */
function normalized(embedding: HitEmbedding | undefined): HitEmbedding | undefined {
  if (embedding === undefined) return undefined;
  const length = Math.sqrt(dot(embedding.vector, embedding.vector));
  if (length === 0) return undefined;
  return { ...embedding, vector: embedding.vector.map((value) => value / length) };
}

function similarityOf(a: HitEmbedding | undefined, b: HitEmbedding | undefined): number {
  return a === undefined || b === undefined || a.version !== b.version ? 0 : dot(a.vector, b.vector);
}

/** Returns the dot product. The loop is unrolled without an iterator, because diversification spends its time here. */
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
