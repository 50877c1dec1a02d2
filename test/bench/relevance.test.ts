import { expect, test } from "vitest";
import { mean, ndcg, recall, reciprocalRank } from "../../bench/relevance.ts";

const far = Array.from({ length: 10 }, (_, i) => `x${i}`);

test.each([
  ["all right, in order", ["a", "b"], ["a", "b"], 1, 1, 1],
  ["nothing right", ["x", "y"], ["a"], 0, 0, 0],
  ["no answer", [], ["a"], 0, 0, 0],
  ["no right answer known", ["x"], [], 0, 0, 0],
  ["the second is right", ["x", "a"], ["a"], 1 / Math.log2(3), 1, 1 / 2],
  ["one of two, third", ["x", "y", "a"], ["a", "b"], 0.5 / (1 + 1 / Math.log2(3)), 0.5, 1 / 3],
  ["the same answer twice", ["a", "a", "b"], ["a", "b"], 1, 1, 1],
  ["right only after the tenth", [...far, "a"], ["a"], 0, 0, 0],
])("an answer with %s is measured", (_name, ranked, relevant, expectedNdcg, expectedRecall, expectedRank) => {
  const right = new Set(relevant);
  expect(ndcg(ranked, right)).toBeCloseTo(expectedNdcg, 10);
  expect(recall(ranked, right)).toBeCloseTo(expectedRecall, 10);
  expect(reciprocalRank(ranked, right)).toBeCloseTo(expectedRank, 10);
});

test("ten right answers of twenty are a full gain and half of the recall", () => {
  const right = new Set(Array.from({ length: 20 }, (_, i) => `a${i}`));
  const ranked = [...right].reverse();
  expect(ndcg(ranked, right)).toBe(1);
  expect(recall(ranked, right)).toBe(0.5);
});

test("the depth can be another", () => {
  expect(recall([...far, "a"], new Set(["a"]), 11)).toBe(1);
});

test("the mean of nothing is 0", () => {
  expect(mean([])).toBe(0);
  expect(mean([1, 2, 6])).toBe(3);
});
