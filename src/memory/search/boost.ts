import type { Microseconds } from "../model/memory.ts";
import type { AgeAndImportance } from "../model/memory-repository.ts";
import type { RankedHit } from "./fuse-scores.ts";

/** What counts beside the query. */
export interface Boost {
  /** Age at which a memory counts half; undefined: age does not matter. */
  readonly halfLife: Microseconds | undefined;
  /** How much importance adds; 0: it does not matter. */
  readonly importanceWeight: number;
}

/** Nothing does. */
export const NO_BOOST: Boost = { halfLife: undefined, importanceWeight: 0 };

export function isBoosting({ halfLife, importanceWeight }: Boost): boolean {
  return halfLife !== undefined || importanceWeight > 0;
}

/**
 * Ranks anew by relevance * 0.5 ^ (age / half-life) * (1 + weight * importance). A relevance below 0, as opposite
 * meanings have, counts as 0: a factor would turn the order of such hits around. Equal scores keep their order.
 *
 * @param facts by hit; a hit without them is gone, and left out
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

/** Above 0, however old. */
function recencyOf(ageSeconds: number, halfLife: Microseconds): number {
  const halfLives = Math.max(0, ageSeconds) / (Number(halfLife) / 1_000_000);
  return Math.max(Number.MIN_VALUE, 0.5 ** halfLives);
}

function clampToOne(value: number): number {
  return Math.min(1, Math.max(0, value));
}
