import {
  type Fusion,
  fuse,
  type PlacedCandidate,
  type RankedHit,
  RRF_K,
  rankSemantic,
  rankText,
} from "./fuse-scores.ts";

/** What was found in one domain by one leg or both; undefined: it was not looked for. */
export interface DomainLegs {
  readonly domain: string;
  readonly semantic:
    | { readonly candidates: readonly PlacedCandidate[]; readonly version: number }
    | undefined;
  readonly text: { readonly candidates: readonly PlacedCandidate[]; readonly ranker: string } | undefined;
}

export interface MergedDomains {
  readonly ranked: RankedHit[];
  /** Whether ranks were put together because scores cannot be compared. */
  readonly byRank: boolean;
}

/**
 * One ranking of what was found in several domains.
 *
 * Similarities of one embedding version are compared as they are, and so are the text scores of one ranker: BM25 weighs a
 * word by how rare it is in its own domain, so the same text scores higher where its words are rarer. Where versions or
 * rankers differ, each domain is ranked by itself and the best of each come first, then the second of each, and so on.
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
  semantic: readonly PlacedCandidate[] | undefined,
  text: readonly PlacedCandidate[] | undefined,
  fusion: Fusion,
): RankedHit[] {
  if (semantic === undefined) return rankText(text ?? []);
  return text === undefined ? rankSemantic(semantic) : fuse(semantic, text, fusion);
}

/** Best first; where scores are equal the order of the domains stays. */
function byScore(
  legs: readonly ({ readonly candidates: readonly PlacedCandidate[] } | undefined)[],
): PlacedCandidate[] {
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
