import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LIMITS } from "../../../src/memory/model/limits.ts";
import {
  CANDIDATE_DEPTH,
  candidateDepth,
  fuse,
  type RankedHit,
  rankSemantic,
  rankText,
} from "../../../src/memory/search/fuse-scores.ts";

const semantic = (...ids: readonly string[]) =>
  ids.map((id, i) => ({ domain: "d", id, score: 1 - i / 10, chunkIndex: i }));
const text = (...ids: readonly string[]) =>
  ids.map((id, i) => ({ domain: "d", id, score: 10 - i, chunkIndex: undefined }));

describe("the candidate depth", () => {
  test.each([1, 5, 99, 100])("is the same for limit %d", (limit) => {
    expect(candidateDepth(limit)).toBe(CANDIDATE_DEPTH);
  });

  test.each([101, 1_000, LIMITS.streamLimit])("is twice the limit %d", (limit) => {
    expect(candidateDepth(limit)).toBe(2 * limit);
  });
});

describe("fusion", () => {
  const scored = (...scores: readonly (readonly [string, number])[]) =>
    scores.map(([id, score]) => ({ domain: "d", id, score, chunkIndex: undefined }));
  const scoresOf = (hits: readonly RankedHit[]) =>
    Object.fromEntries(hits.map(({ id, score }) => [id, score]));

  test("weighs similarities down to the last candidate and text scores down to 0", () => {
    const hits = fuse(scored(["a", 0.9], ["b", 0.6], ["c", 0.4]), scored(["c", 8], ["d", 2]));
    expect(scoresOf(hits)).toEqual({
      c: expect.closeTo(0.55),
      a: expect.closeTo(0.45),
      b: expect.closeTo(0.45 * 0.4),
      d: expect.closeTo(0.55 * 0.25),
    });
    expect(hits.map(({ id }) => id)).toEqual(["c", "a", "b", "d"]);
  });

  test("does not make much of similarities that hardly differ", () => {
    const { a, b } = scoresOf(fuse(scored(["a", 0.71], ["b", 0.7]), []));
    expect(a).toBeCloseTo(0.45);
    expect(b).toBeCloseTo(0.45 * 0.9);
  });

  test.each([
    ["words", { textWeight: 1, semanticWeight: 0 }, ["c", "a", "b"]],
    ["meaning", { textWeight: 0, semanticWeight: 2 }, ["a", "b", "c"]],
  ])("can listen to %s alone", (_, weights, order) => {
    const hits = fuse(scored(["a", 0.9], ["b", 0.6]), scored(["c", 8]), { ...weights, k: undefined });
    expect(hits.map(({ id }) => id)).toEqual(order);
  });

  test("can go by ranks: adds the weighted reciprocal ranks of both legs", () => {
    const fusion = { textWeight: 1, semanticWeight: 3, k: 60 };
    expect(scoresOf(fuse(semantic("a", "b", "c"), text("c", "d"), fusion))).toEqual({
      c: expect.closeTo(0.75 / 63 + 0.25 / 61),
      a: expect.closeTo(0.75 / 61),
      b: expect.closeTo(0.75 / 62),
      d: expect.closeTo(0.25 / 62),
    });
  });

  test("keeps what each leg said", () => {
    const hits = new Map(fuse(semantic("a", "b"), text("b", "c")).map((hit) => [hit.id, hit]));
    const nothing = { similarity: undefined, semanticRank: undefined, chunkIndex: undefined };
    expect(hits.get("b")).toMatchObject({
      similarity: 0.9,
      semanticRank: 2,
      chunkIndex: 1,
      textScore: 10,
      textRank: 1,
    });
    expect(hits.get("a")).toMatchObject({ similarity: 1, textScore: undefined, textRank: undefined });
    expect(hits.get("c")).toMatchObject({ ...nothing, textScore: 9, textRank: 2 });
  });

  test("of one leg keeps its order", () => {
    expect(fuse(semantic("b", "a"), []).map(({ id }) => id)).toEqual(["b", "a"]);
    expect(fuse([], text("b", "a")).map(({ id }) => id)).toEqual(["b", "a"]);
    expect(fuse([], [])).toEqual([]);
  });

  const ids = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 3 }), { maxLength: 30 });

  test("gives each memory once, best first, and none is lost", () => {
    fc.assert(
      fc.property(ids, ids, (near, words) => {
        const hits = fuse(semantic(...near), text(...words));
        expect(hits.map(({ id }) => id).sort()).toEqual([...new Set([...near, ...words])].sort());
        for (const [i, hit] of hits.entries()) {
          const next = hits[i + 1];
          if (next === undefined) break;
          expect(hit.score > next.score || (hit.score === next.score && hit.id < next.id)).toBe(true);
        }
      }),
    );
  });

  test("puts a memory that is first in both legs first", () => {
    fc.assert(
      fc.property(ids, ids, (near, words) => {
        const first = "first in both";
        expect(fuse(semantic(first, ...near), text(first, ...words))[0]?.id).toBe(first);
      }),
    );
  });
});

test("a single leg is ranked by its own scores", () => {
  expect(rankSemantic(semantic("a", "b"))).toMatchObject([
    { id: "a", score: 1, similarity: 1, semanticRank: 1, chunkIndex: 0, textScore: undefined },
    { id: "b", score: 0.9, similarity: 0.9, semanticRank: 2, chunkIndex: 1, textRank: undefined },
  ]);
  expect(rankText(text("a", "b"))).toMatchObject([
    { id: "a", score: 10, textScore: 10, textRank: 1, similarity: undefined, chunkIndex: undefined },
    { id: "b", score: 9, textScore: 9, textRank: 2, semanticRank: undefined },
  ]);
});
