import { describe, expect, test } from "vitest";
import { boostHits, isBoosting, NO_BOOST } from "../../../src/memory/search/boost.ts";
import { type RankedHit, rankText } from "../../../src/memory/search/fuse-scores.ts";

const DAY = 86_400;
const halfLife = BigInt(DAY) * 1_000_000n;

const ranked = (scores: Readonly<Record<string, number>>): RankedHit[] =>
  rankText(Object.entries(scores).map(([id, score]) => ({ domain: "d", id, score, chunkIndex: undefined })));
const facts =
  (days: Readonly<Record<string, number>>, importances: Readonly<Record<string, number>> = {}) =>
  ({ id }: RankedHit) => {
    const age = days[id];
    return age === undefined ? undefined : { id, ageSeconds: age * DAY, importance: importances[id] };
  };

describe("age", () => {
  test("halves the score with every half-life", () => {
    const hits = boostHits(
      ranked({ old: 8, young: 4.5, older: 2 }),
      { halfLife, importanceWeight: 0 },
      facts({ old: 1, young: 0, older: 3 }),
    );
    expect(hits).toMatchObject([
      { id: "young", score: 4.5, recency: 1, importance: undefined },
      { id: "old", score: 4, recency: 0.5 },
      { id: "older", score: 0.25, recency: 0.125 },
    ]);
  });

  test("of a memory from the future counts as none", () => {
    const [hit] = boostHits(ranked({ m: 2 }), { halfLife, importanceWeight: 0 }, facts({ m: -5 }));
    expect(hit).toMatchObject({ score: 2, recency: 1 });
  });

  test("leaves the order of the very old as it was", () => {
    const boost = { halfLife: 1_000_000n, importanceWeight: 0 };
    const hits = boostHits(
      ranked({ b: 0.3, a: 0.2, c: 0.1 }),
      boost,
      facts({ a: 9_000, b: 9_000, c: 9_000 }),
    );
    expect(hits.map(({ id }) => id)).toEqual(["b", "a", "c"]);
    for (const { recency } of hits) expect(recency).toBeGreaterThan(0);
  });
});

describe("importance", () => {
  test.each([
    [undefined, 1],
    [0, 1],
    [0.5, 2],
    [1, 3],
    [7, 3],
    [-7, 1],
  ])("%s multiplies the score by %d with a weight of 2", (importance, factor) => {
    const boost = { halfLife: undefined, importanceWeight: 2 };
    const importances = importance === undefined ? {} : { m: importance };
    const [hit] = boostHits(ranked({ m: 5 }), boost, facts({ m: 1 }, importances));
    expect(hit).toMatchObject({ score: 5 * factor, importance: factor, recency: undefined });
  });
});

test("a relevance below 0 is not made better by age, nor worse by importance", () => {
  const boost = { halfLife, importanceWeight: 1 };
  const hits = boostHits(
    ranked({ fits: 0.1, less: -0.1, least: -0.9 }),
    boost,
    facts({ fits: 20, less: 0, least: 50 }, { less: 1 }),
  );
  expect(hits.map(({ id }) => id)).toEqual(["fits", "less", "least"]);
  expect(hits.map(({ score }) => score > 0)).toEqual([true, false, false]);
});

test("a hit that is gone is left out", () => {
  const hits = boostHits(ranked({ a: 2, b: 1 }), { halfLife, importanceWeight: 0 }, facts({ b: 0 }));
  expect(hits.map(({ id }) => id)).toEqual(["b"]);
});

test("nothing counts beside the query unless asked for", () => {
  expect(isBoosting(NO_BOOST)).toBe(false);
  expect(isBoosting({ ...NO_BOOST, halfLife })).toBe(true);
  expect(isBoosting({ ...NO_BOOST, importanceWeight: 0.1 })).toBe(true);
});
