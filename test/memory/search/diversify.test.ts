import fc from "fast-check";
import { expect, test } from "vitest";
import { DIVERSE_HITS, diversify } from "../../../src/memory/search/diversify.ts";
import { type RankedHit, rankText } from "../../../src/memory/search/fuse-scores.ts";
import { at } from "../../support/drafts.ts";

/** Hits by score and the angle of their embedding; null: none. */
type Points = Readonly<Record<string, readonly [score: number, degrees: number | null]>>;

const ranked = (points: Points): RankedHit[] =>
  rankText(
    Object.entries(points).map(([id, [score]]) => ({ domain: "d", id, score, chunkIndex: undefined })),
  );
const embeddingOf =
  (points: Points, version = (_id: string) => 1) =>
  ({ id }: RankedHit) => {
    const degrees = points[id]?.[1] ?? null;
    return degrees === null ? undefined : { id, version: version(id), vector: at(degrees) };
  };
const orderOf = (points: Points, diversity: number, limit = 10) =>
  diversify(ranked(points), limit, diversity, embeddingOf(points)).map(({ id }) => id);

const twins: Points = { a: [10, 0], twin: [9, 1], other: [6, 80], none: [3, null] };

test.each([
  [0.01, ["a", "twin", "other", "none"]],
  [0.5, ["a", "other", "none", "twin"]],
  [1, ["a", "none", "other", "twin"]],
])("diversity %d orders by how much hits differ from those before them", (diversity, order) => {
  expect(orderOf(twins, diversity)).toEqual(order);
});

test("scores stay what they were", () => {
  const hits = diversify(ranked(twins), 10, 1, embeddingOf(twins));
  expect(hits.map(({ score }) => score)).toEqual([10, 3, 6, 9]);
});

test("embeddings of different versions are not compared", () => {
  const hits = diversify(
    ranked(twins),
    10,
    0.5,
    embeddingOf(twins, (id) => (id === "twin" ? 2 : 1)),
  );
  expect(hits.map(({ id }) => id)).toEqual(["a", "twin", "other", "none"]);
});

test("embeddings of any length are compared by their direction", () => {
  const longer = (hit: RankedHit) => {
    const found = embeddingOf(twins)(hit);
    return found && { ...found, vector: found.vector.map((value) => value * 50) };
  };
  expect(diversify(ranked(twins), 10, 0.5, longer).map(({ id }) => id)).toEqual(orderOf(twins, 0.5));
});

test("the first of a smaller limit are the first of a larger one, and none is lost", () => {
  const point = fc.tuple(fc.integer({ min: 1, max: 20 }), fc.option(fc.integer({ min: 0, max: 359 })));
  fc.assert(
    fc.property(
      fc.array(point, { maxLength: 30 }),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (list, diversity) => {
        const sorted = [...list].sort(([a], [b]) => b - a);
        const points: Points = Object.fromEntries(sorted.map((each, i) => [`m${i}`, each]));
        const all = orderOf(points, diversity, 30);
        expect([...all].sort()).toEqual(Object.keys(points).sort());
        for (const limit of [1, 5, 20]) {
          const fewer = orderOf(points, diversity, limit);
          expect(fewer.slice(0, limit)).toEqual(all.slice(0, limit));
          expect(fewer).toHaveLength(all.length);
        }
      },
    ),
  );
});

test("what is ranked far behind stays there", () => {
  const many: Points = Object.fromEntries(
    Array.from({ length: DIVERSE_HITS + 3 }, (_, i) => [`m${i}`, [1_000 - i, i % 360]] as const),
  );
  const order = orderOf(many, 0.9, 50);
  expect(order).toHaveLength(DIVERSE_HITS + 3);
  expect(order.slice(-3)).toEqual([`m${DIVERSE_HITS}`, `m${DIVERSE_HITS + 1}`, `m${DIVERSE_HITS + 2}`]);
});
