import type { Candidate } from "../model/search-index.ts";

/**
 * Number of candidates from each leg for limits up to 100. It is fixed, so that the answer for a smaller limit is a prefix of
 * the answer for a larger one.
 */
export const CANDIDATE_DEPTH = 100;

/** Returns the number of candidates per leg. Above limit 100 it is twice the limit, and ranks may differ from those of smaller limits. */
export function candidateDepth(limit: number): number {
  return limit <= CANDIDATE_DEPTH ? CANDIDATE_DEPTH : 2 * limit;
}

/** The constant of reciprocal rank fusion, from Cormack, Clarke and Buettcher, SIGIR 2009. */
export const RRF_K = 60;

/** How to combine the two legs of a hybrid search into one ranking. */
export interface Fusion {
  /** Weight of the full-text leg. Only the ratio of the two weights matters; at least one is above 0. */
  readonly textWeight: number;
  readonly semanticWeight: number;
  /** Constant of reciprocal rank fusion; undefined to fuse scores instead of ranks. */
  readonly k: number | undefined;
}

/**
 * The weights were measured with all-MiniLM-L6-v2 on the labelled collections of bench/README.md. Fusing scores was better than
 * the better leg on each collection. Reciprocal rank fusion lost up to 8 points of nDCG@10 where one leg is much weaker than the
 * other.
 */
export const DEFAULT_FUSION: Fusion = { textWeight: 0.55, semanticWeight: 0.45, k: undefined };

/** A smaller spread of similarities is not scaled up to the range from 0 to 1, since that would amplify noise. */
const SMALLEST_SPREAD = 0.1;

/** A candidate with its domain, since ids are unique only within a domain. */
export interface DomainCandidate extends Candidate {
  readonly domain: string;
}

/** A ranked hit with its rank in each leg. Ranks start at 1 and are undefined for a leg that did not find the memory. */
export interface RankedHit {
  readonly domain: string;
  readonly id: string;
  readonly score: number;
  readonly similarity: number | undefined;
  readonly textScore: number | undefined;
  readonly semanticRank: number | undefined;
  readonly textRank: number | undefined;
  readonly chunkIndex: number | undefined;
  /** The factor for its age; undefined if age did not matter. */
  readonly recency: number | undefined;
  /** The factor for its importance; undefined if importance did not matter. */
  readonly importance: number | undefined;
}

/** Ranks the candidates of the semantic leg alone, by cosine similarity. */
export function rankSemantic(candidates: readonly DomainCandidate[]): RankedHit[] {
  return candidates.map((candidate, index) => ({
    ...UNRANKED,
    domain: candidate.domain,
    id: candidate.id,
    score: candidate.score,
    similarity: candidate.score,
    semanticRank: index + 1,
    chunkIndex: candidate.chunkIndex,
  }));
}

/** Ranks the candidates of the full-text leg alone, by the text ranker's score. */
export function rankText(candidates: readonly DomainCandidate[]): RankedHit[] {
  return candidates.map((candidate, index) => ({
    ...UNRANKED,
    domain: candidate.domain,
    id: candidate.id,
    score: candidate.score,
    textScore: candidate.score,
    textRank: index + 1,
  }));
}

/**
 * Fuses the rankings of both legs. The score of a hit is the weighted mean of its normalized scores in the two legs; a leg
 * that did not find it contributes 0.
 *
 * Without `k`, scores are normalized so that the best of each leg is 1. Similarities reach 0 at the last candidate, which
 * stands for unrelated memories; text scores keep their zero. With `k`, a hit contributes 1 / (k + rank). Ties are ordered by id.
 */
export function fuse(
  semantic: readonly DomainCandidate[],
  text: readonly DomainCandidate[],
  fusion: Fusion = DEFAULT_FUSION,
): RankedHit[] {
  const { textWeight, semanticWeight, k } = fusion;
  const both = textWeight + semanticWeight;
  const hits = new Map<string, RankedHit>();
  const legs = [
    {
      hits: rankSemantic(semantic),
      weight: semanticWeight / both,
      normalize: normalizeSimilarities(semantic),
    },
    { hits: rankText(text), weight: textWeight / both, normalize: normalizeTextScores(text) },
  ];
  for (const leg of legs) {
    for (const [index, hit] of leg.hits.entries()) {
      const key = hitKey(hit);
      const other = hits.get(key);
      const score = leg.weight * (k === undefined ? leg.normalize(hit.score) : 1 / (k + index + 1));
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

function normalizeSimilarities(candidates: readonly DomainCandidate[]): (similarity: number) => number {
  const best = candidates[0]?.score ?? 0;
  const spread = Math.max(SMALLEST_SPREAD, best - (candidates.at(-1)?.score ?? 0));
  return (similarity) => 1 - (best - similarity) / spread;
}

function normalizeTextScores(candidates: readonly DomainCandidate[]): (score: number) => number {
  const best = candidates[0]?.score ?? 1;
  return (score) => score / best;
}

/** Returns a key that is unique across domains; domain names contain no slash. */
export function hitKey({ domain, id }: { readonly domain: string; readonly id: string }): string {
  return `${domain}/${id}`;
}

const UNRANKED = {
  similarity: undefined,
  textScore: undefined,
  semanticRank: undefined,
  textRank: undefined,
  chunkIndex: undefined,
  recency: undefined,
  importance: undefined,
} as const;
