import type { Candidate } from "../storage/memory-repository.ts";

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

/** Reciprocal rank fusion: score = sum over legs of 1 / (k + rank). Ties by id. */
export function fuse(semantic: readonly PlacedCandidate[], text: readonly PlacedCandidate[]): RankedHit[] {
  const hits = new Map<string, RankedHit>();
  for (const leg of [rankSemantic(semantic), rankText(text)]) {
    for (const hit of leg) {
      const key = hitKey(hit);
      const other = hits.get(key);
      const score = 1 / (RRF_K + (hit.semanticRank ?? hit.textRank ?? 0));
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
} as const;
