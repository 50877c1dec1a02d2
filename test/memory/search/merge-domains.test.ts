import { describe, expect, test } from "vitest";
import { DEFAULT_FUSION } from "../../../src/memory/search/fuse-scores.ts";
import { type DomainLegs, mergeDomains } from "../../../src/memory/search/merge-domains.ts";

const leg = (domain: string, scores: Readonly<Record<string, number>>) =>
  Object.entries(scores).map(([id, score]) => ({ domain, id, score, chunkIndex: undefined }));
const answer = (
  domain: string,
  version: number,
  near: Readonly<Record<string, number>>,
  words: Readonly<Record<string, number>>,
  ranker = "bm25",
) => ({
  domain,
  semantic: { candidates: leg(domain, near), version },
  text: { candidates: leg(domain, words), ranker },
});
const merge = (answers: readonly DomainLegs[]) => mergeDomains(answers, DEFAULT_FUSION);
const placesOf = ({ ranked }: ReturnType<typeof merge>) => ranked.map(({ domain, id }) => domain + id);

describe("answers of several domains", () => {
  test("of one version are one ranking by scores", () => {
    const merged = merge([
      answer("a", 1, { "1": 0.9, "2": 0.1 }, {}),
      answer("b", 1, { "1": 0.5, "2": 0.4 }, {}),
    ]);
    expect(placesOf(merged)).toEqual(["a1", "b1", "b2", "a2"]);
    expect(merged.ranked.map(({ semanticRank }) => semanticRank)).toEqual([1, 2, 3, 4]);
    expect(merged.byRank).toBe(false);
  });

  test.each([
    ["versions", answer("b", 2, { "1": 0.5, "2": 0.4 }, { "2": 3 })],
    ["text rankers", answer("b", 1, { "1": 0.5, "2": 0.4 }, { "2": 3 }, "other")],
  ])("of different %s take turns", (_name, other) => {
    const merged = merge([answer("a", 1, { "1": 0.9, "2": 0.1 }, { "1": 9 }), other]);
    expect(placesOf(merged)).toEqual(["a1", "b2", "a2", "b1"]);
    const scores = merged.ranked.map(({ score }) => score);
    expect(scores).toEqual(scores.toSorted((a, b) => b - a));
    expect(merged.byRank).toBe(true);
  });

  test("are nothing where nothing was found", () => {
    expect(merge([])).toEqual({ ranked: [], byRank: false });
  });
});
