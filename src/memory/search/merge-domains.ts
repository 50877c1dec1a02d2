import {
  type DomainCandidate,
  type Fusion,
  fuse,
  type RankedHit,
  RRF_K,
  rankSemantic,
  rankText,
} from "./fuse-scores.ts";

/** The candidates of one domain from each leg; undefined if that leg did not run. */
export interface DomainLegs {
  readonly domain: string;
  readonly semantic:
    | { readonly candidates: readonly DomainCandidate[]; readonly version: number }
    | undefined;
  readonly text: { readonly candidates: readonly DomainCandidate[]; readonly ranker: string } | undefined;
}

export interface MergedDomains {
  readonly ranked: RankedHit[];
  /** Whether the domains were merged by rank, because their scores are not comparable. */
  readonly byRank: boolean;
}

/**
 * Merges the candidates of several domains into one ranking.
 *
 * Similarities of the same embedding version are directly comparable, and text scores of the same ranker are compared too. BM25
 * weighs a word by its frequency in its own domain, so the same text scores higher in a domain where its words are rarer. Where
 * versions or rankers differ, each domain is ranked separately; the best hit of each domain comes first, then the second of
 * each, and so on.
 */
export function mergeDomains(answers: readonly DomainLegs[], fusion: Fusion): MergedDomains {
  const versions = new Set(answers.flatMap(({ semantic }) => (semantic ? [semantic.version] : [])));
  const rankers = new Set(answers.flatMap(({ text }) => (text ? [text.ranker] : [])));
  if (versions.size <= 1 && rankers.size <= 1) {
    const legs = {
      semantic: versions.size === 0 ? undefined : byScore(answers.map(({ semantic }) => semantic)),
      text: rankers.size === 0 ? undefined : byScore(answers.map(({ text }) => text)),
    };
    return { ranked: rankLegs(legs.semantic, legs.text, fusion), byRank: false };
  }
  const rankings = answers.map(({ semantic, text }) =>
    rankLegs(semantic?.candidates, text?.candidates, fusion),
  );
  return { ranked: interleave(rankings), byRank: true };
}

function rankLegs(
  semantic: readonly DomainCandidate[] | undefined,
  text: readonly DomainCandidate[] | undefined,
  fusion: Fusion,
): RankedHit[] {
  if (semantic === undefined) return rankText(text ?? []);
  return text === undefined ? rankSemantic(semantic) : fuse(semantic, text, fusion);
}

/** Sorts by descending score; equal scores keep the order of the domains. */
function byScore(
  legs: readonly ({ readonly candidates: readonly DomainCandidate[] } | undefined)[],
): DomainCandidate[] {
  const candidates = legs.flatMap((leg) => leg?.candidates ?? []);
  return legs.length === 1 ? candidates : candidates.sort((a, b) => b.score - a.score);
}

function interleave(rankings: readonly (readonly RankedHit[])[]): RankedHit[] {
  const merged: RankedHit[] = [];
  const longest = Math.max(0, ...rankings.map((ranking) => ranking.length));
  for (let rank = 0; rank < longest; rank++) {
    for (const ranking of rankings) {
      const hit = ranking[rank];
      if (hit !== undefined) merged.push({ ...hit, score: 1 / (RRF_K + rank + 1) });
    }
  }
  return merged;
}
