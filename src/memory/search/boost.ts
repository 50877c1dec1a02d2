import type { Microseconds } from "../model/memory.ts";
import type { AgeAndImportance } from "../model/search-index.ts";
import type { RankedHit } from "./fuse-scores.ts";

/** Properties of a memory that change its rank besides the query. */
export interface Boost {
  /** Age at which the score of a memory halves; undefined if age does not matter. */
  readonly halfLife: Microseconds | undefined;
  /** Weight of the importance; 0 if it does not matter. */
  readonly importanceWeight: number;
}

/** Ranks by the query alone. */
export const NO_BOOST: Boost = { halfLife: undefined, importanceWeight: 0 };

export function isBoosting({ halfLife, importanceWeight }: Boost): boolean {
  return halfLife !== undefined || importanceWeight > 0;
}

/**
 * Returns the hits ordered by relevance * 0.5 ^ (age / half-life) * (1 + weight * importance). A negative relevance counts as
 * 0, since a factor would reverse the order of such hits. Equal scores keep their order.
 *
 * @param factsOf Returns undefined for a memory that no longer exists, which is dropped.
 */
export function boostHits(
  hits: readonly RankedHit[],
  { halfLife, importanceWeight }: Boost,
  factsOf: (hit: RankedHit) => AgeAndImportance | undefined,
): RankedHit[] {
  return hits
    .flatMap((hit) => {
      const facts = factsOf(hit);
      if (facts === undefined) return [];
      const recency = halfLife === undefined ? undefined : recencyOf(facts.ageSeconds, halfLife);
      const importance =
        importanceWeight === 0 ? undefined : 1 + importanceWeight * clampToOne(facts.importance ?? 0);
      const score = Math.max(0, hit.score) * (recency ?? 1) * (importance ?? 1);
      return [{ ...hit, score, recency, importance }];
    })
    .sort((a, b) => b.score - a.score);
}

/** Returns a factor above 0 for any age. */
function recencyOf(ageSeconds: number, halfLife: Microseconds): number {
  const halfLives = Math.max(0, ageSeconds) / (Number(halfLife) / 1_000_000);
  return Math.max(Number.MIN_VALUE, 0.5 ** halfLives);
}

function clampToOne(value: number): number {
  return Math.min(1, Math.max(0, value));
}
