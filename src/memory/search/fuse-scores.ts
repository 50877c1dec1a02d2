import type { Candidate } from "../model/memory-repository.ts";

/**
 * Candidates that each leg finds for limits up to 100. Fixed, so that the answer for a smaller limit is the
 * beginning of the answer for a larger one.
 */
export const CANDIDATE_DEPTH = 100;

/** Above limit 100 the depth is twice the limit, and ranks may differ from those of smaller limits. */
export function candidateDepth(limit: number): number {
  return limit <= CANDIDATE_DEPTH ? CANDIDATE_DEPTH : 2 * limit;
}

/** The constant of reciprocal rank fusion, from Cormack, Clarke and Buettcher, SIGIR 2009. */
export const RRF_K = 60;

/** How the two legs of a hybrid search become one ranking. */
export interface Fusion {
  /** Only the ratio of the two weights matters; not both are 0. */
  readonly textWeight: number;
  readonly semanticWeight: number;
  /** Constant of reciprocal rank fusion; undefined: scores are fused, not ranks. */
  readonly k: number | undefined;
}

/**
 * Measured with all-MiniLM-L6-v2 on the labelled collections of bench/README.md: fused scores were better than the better
 * leg on each, while reciprocal ranks lost up to 8 points of nDCG@10 where one leg is much weaker than the other.
 */
export const DEFAULT_FUSION: Fusion = { textWeight: 0.55, semanticWeight: 0.45, k: undefined };

/** Similarities closer together than this are not stretched to fill the range from 0 to 1: that would be noise. */
const SMALLEST_SPREAD = 0.1;

/** A candidate, and the domain where it was found: ids are unique within one. */
export interface PlacedCandidate extends Candidate {
  readonly domain: string;
}

/** A ranked answer, with where it stood in each leg (ranks count from 1; undefined: not found there). */
export interface RankedHit {
  readonly domain: string;
  readonly id: string;
  readonly score: number;
  readonly similarity: number | undefined;
  readonly textScore: number | undefined;
  readonly semanticRank: number | undefined;
  readonly textRank: number | undefined;
  readonly chunkIndex: number | undefined;
  /** The factor for its age; undefined: age did not matter. */
  readonly recency: number | undefined;
  /** The factor for its importance; undefined: importance did not matter. */
  readonly importance: number | undefined;
}

/** The answer of one leg as it is; scores are the leg's own. */
export function rankSemantic(candidates: readonly PlacedCandidate[]): RankedHit[] {
  return candidates.map((candidate, index) => ({
    ...nothing,
    domain: candidate.domain,
    id: candidate.id,
    score: candidate.score,
    similarity: candidate.score,
    semanticRank: index + 1,
    chunkIndex: candidate.chunkIndex,
  }));
}

export function rankText(candidates: readonly PlacedCandidate[]): RankedHit[] {
  return candidates.map((candidate, index) => ({
    ...nothing,
    domain: candidate.domain,
    id: candidate.id,
    score: candidate.score,
    textScore: candidate.score,
    textRank: index + 1,
  }));
}

/**
 * One ranking out of two: the score of a hit is the weighted mean of what it is worth in each leg, where a leg that did
 * not find it gives 0. By scores (the default) the best of a leg is worth 1; similarities fall to 0 at the last candidate,
 * which stands for what is unrelated, and text scores at 0. By ranks (`k` is set) a hit is worth 1 / (k + rank). Ties by id.
 */
export function fuse(
  semantic: readonly PlacedCandidate[],
  text: readonly PlacedCandidate[],
  fusion: Fusion = DEFAULT_FUSION,
): RankedHit[] {
  const { textWeight, semanticWeight, k } = fusion;
  const both = textWeight + semanticWeight;
  const hits = new Map<string, RankedHit>();
  const legs = [
    { hits: rankSemantic(semantic), weight: semanticWeight / both, worth: worthOfSimilarities(semantic) },
    { hits: rankText(text), weight: textWeight / both, worth: worthOfTextScores(text) },
  ];
  for (const leg of legs) {
    for (const [index, hit] of leg.hits.entries()) {
      const key = hitKey(hit);
      const other = hits.get(key);
      const score = leg.weight * (k === undefined ? leg.worth(hit.score) : 1 / (k + index + 1));
      hits.set(
        key,
        other === undefined
          ? { ...hit, score }
          : { ...other, textScore: hit.textScore, textRank: hit.textRank, score: other.score + score },
      );
    }
  }
  return [...hits.values()].sort((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1));
}

function worthOfSimilarities(candidates: readonly PlacedCandidate[]): (similarity: number) => number {
  const best = candidates[0]?.score ?? 0;
  const spread = Math.max(SMALLEST_SPREAD, best - (candidates.at(-1)?.score ?? 0));
  return (similarity) => 1 - (best - similarity) / spread;
}

function worthOfTextScores(candidates: readonly PlacedCandidate[]): (score: number) => number {
  const best = candidates[0]?.score ?? 1;
  return (score) => score / best;
}

/** Tells a hit from those of other domains; no name of a domain holds a slash. */
export function hitKey({ domain, id }: { readonly domain: string; readonly id: string }): string {
  return `${domain}/${id}`;
}

const nothing = {
  similarity: undefined,
  textScore: undefined,
  semanticRank: undefined,
  textRank: undefined,
  chunkIndex: undefined,
  recency: undefined,
  importance: undefined,
} as const;
