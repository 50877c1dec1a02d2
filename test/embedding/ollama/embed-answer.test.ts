import { describe, expect, it } from "vitest";
import { createDegenerationGuard, embeddingsFromAnswer } from "../../../src/embedding/ollama/embed-answer.ts";

const EXPECTED = { texts: ["a", "b"], model: "m", dimensions: 2 };
const answerWith = (...embeddings: unknown[]) => ({ model: "m", embeddings });

describe("embeddingsFromAnswer", () => {
  it("normalizes embeddings of nearly unit length", () => {
    expect(embeddingsFromAnswer(answerWith([0.6, 0.8], [0, 1.5]), EXPECTED)).toEqual([
      Float32Array.of(0.6, 0.8),
      Float32Array.of(0, 1),
    ]);
  });

  it.each([
    ["null", null],
    ["a string", "embeddings"],
    ["an error", { error: "x" }],
    [
      "another model's",
      {
        model: "n",
        embeddings: [
          [1, 0],
          [0, 1],
        ],
      },
    ],
    ["without embeddings", { model: "m" }],
    ["too few", answerWith([1, 0])],
    ["too many", answerWith([1, 0], [0, 1], [1, 0])],
    ["no list", answerWith([1, 0], null)],
    ["too short", answerWith([1, 0], [1])],
    ["too long", answerWith([1, 0], [1, 0, 0])],
    ["null inside", answerWith([1, 0], [1, null])],
    ["text inside", answerWith([1, 0], [1, "0"])],
    ["infinite", answerWith([1, 0], [Number.POSITIVE_INFINITY, 0])],
    ["far from unit length", answerWith([1, 0], [3, 0])],
    ["nearly nothing", answerWith([1, 0], [0.001, 0])],
  ])("rejects an answer that is %s", (_, answer) => {
    expect(() => embeddingsFromAnswer(answer, EXPECTED)).toThrow(
      expect.objectContaining({ kind: "unavailable" }),
    );
  });

  it("rejects only the texts with zero embeddings beside good ones", () => {
    expect(() => embeddingsFromAnswer(answerWith([1, 0], [0, 0]), EXPECTED)).toThrow(
      expect.objectContaining({ kind: "rejected" }),
    );
  });

  it("blames no text when all embeddings are zero", () => {
    expect(() => embeddingsFromAnswer(answerWith([0, 0], [0, 0]), EXPECTED)).toThrow(
      expect.objectContaining({ kind: "unavailable", suspect: true }),
    );
  });

  it("accepts any consistent dimensions while they are unknown", () => {
    const expected = { ...EXPECTED, dimensions: undefined };
    expect(embeddingsFromAnswer(answerWith([1, 0, 0], [0, 1, 0]), expected)).toHaveLength(2);
    expect(() => embeddingsFromAnswer(answerWith([1, 0, 0], [0, 1]), expected)).toThrow("2 dimensions");
    expect(() => embeddingsFromAnswer(answerWith([], []), expected)).toThrow("0 dimensions");
  });
});

describe("degeneration guard", () => {
  const one = Float32Array.of(1, 0);

  it("refuses one embedding for different texts, in one answer and across answers", () => {
    const guard = createDegenerationGuard();
    expect(() => guard.check(["cats", "dogs"], [one, one])).toThrow("same embedding");
    guard.check(["cats"], [one]);
    expect(() => guard.check(["dogs"], [one])).toThrow("same embedding");
  });

  it("accepts one embedding for a text as query and as document", () => {
    const guard = createDegenerationGuard(["query: ", "document: "]);
    guard.check(["query: cats", "document: cats"], [one, one]);
  });

  it.each([
    ["the same text", "cats", "cats"],
    ["texts that differ in case, accents and punctuation", "Crème, brûlée", "creme brulee"],
    ["words that an English vocabulary does not know", "苹果", "钢笔"],
    ["words too long for any vocabulary", "a".repeat(65), "b".repeat(65)],
  ])("accepts one embedding for %s", (_, a, b) => {
    const guard = createDegenerationGuard();
    guard.check([a, b], [one, one]);
    guard.check([b], [one]);
  });
});
