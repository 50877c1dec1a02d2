import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { readCollections } from "../../bench/collection.ts";
import { chooseEngines } from "../../bench/engines.ts";
import { evaluate } from "../../bench/eval/evaluate.ts";
import { ndcg, pairedDifference, recall, reciprocalRank, sessionFound } from "../../bench/eval/metrics.ts";
import { createRandom } from "../../bench/texts.ts";

// A server with an embedded database of its own.
vi.setConfig({ testTimeout: 120_000 });

describe("the metrics", () => {
  const relevant = new Set(["a", "b"]);

  test.each([
    ["both first", ["a", "b", "x"], 1, 1, 1],
    // (1 / log2 3 + 1 / log2 4) / (1 + 1 / log2 3)
    ["both one rank late", ["x", "b", "a"], 0.6934, 1, 0.5],
    // 1 / (1 + 1 / log2 3)
    ["one first", ["a", "x", "y"], 0.6131, 0.5, 1],
    ["the eleventh", [..."0123456789", "a"], 0, 0, 0],
    ["none", ["x"], 0, 0, 0],
    ["no hits", [], 0, 0, 0],
  ])("judge an answer with %s", (_, hits, gain, found, reciprocal) => {
    expect(ndcg(hits, relevant)).toBeCloseTo(gain, 4);
    expect(recall(hits, relevant)).toBe(found);
    expect(reciprocalRank(hits, relevant)).toBe(reciprocal);
  });

  test("find a session by any of its turns", () => {
    const turn = new Set(["0|D1:3"]);
    expect(sessionFound(["0|D2:3", "0|D1:9"], turn)).toBe(1);
    expect(sessionFound(["0|D2:3", "0|D11:3"], turn)).toBe(0);
  });

  test("tell a difference from chance", () => {
    const better = Array.from({ length: 100 }, (_, n) => (n % 2 === 0 ? 0.9 : 0.5));
    const worse = Array.from({ length: 100 }, () => 0.5);
    const { mean, low, high } = pairedDifference(better, worse, createRandom(1, 0));
    expect(mean).toBeCloseTo(0.2);
    expect(low).toBeGreaterThan(0.1);
    expect(high).toBeLessThan(0.3);
    const none = pairedDifference(worse, worse, createRandom(1, 0));
    expect(none).toEqual({ mean: 0, low: 0, high: 0 });
  });
});

describe("an evaluation", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "memory-service-eval-"));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  async function write(
    name: string,
    documents: readonly object[],
    queries: readonly object[],
  ): Promise<void> {
    const lines = (list: readonly object[]) => list.map((line) => `${JSON.stringify(line)}\n`).join("");
    await mkdir(join(directory, name));
    await writeFile(join(directory, name, "documents.jsonl"), lines(documents));
    await writeFile(join(directory, name, "queries.jsonl"), lines(queries));
  }

  test("stores a collection, a domain for each scope, and judges its answers", async () => {
    await write(
      "fruit",
      [
        { scope: "a", id: "a|D1:1", text: "the apple tree bears red fruit" },
        { scope: "a", id: "a|D2:1", text: "pears ripen late in the year" },
        { scope: "b", id: "b|D1:1", text: "another apple, in another scope" },
        { scope: "b", id: "b|D1:2", text: "" },
      ],
      [
        { scope: "a", id: "1", text: "where is the apple?", relevant: ["a|D1:1"], category: 1 },
        { scope: "b", id: "2", text: "apple", relevant: ["b|D1:1"], category: 2 },
        { scope: "b", id: "3", text: "zebra", relevant: ["b|D1:1"], category: 2 },
      ],
    );
    const [collection] = await readCollections(directory);
    const [createEngine] = chooseEngines("embedded", undefined);
    if (collection === undefined || createEngine === undefined) throw new Error("nothing to evaluate");
    const engine = await createEngine();
    try {
      const evaluation = await evaluate({
        engine,
        collection,
        modes: ["text"],
        embedderUrl: "",
        model: "nomic-embed-text",
        ranking: undefined,
        oneDomain: false,
        progress: () => {},
      });
      const third = expect.closeTo(2 / 3);
      expect(evaluation).toMatchObject({
        collection: "fruit",
        documents: 4,
        domains: 2,
        model: null,
        text: { queries: 3, "ndcg@10": third, "recall@10": third, "session@10": third, empty: 1 },
      });
      expect(evaluation.text?.categories).toMatchObject({
        1: { "ndcg@10": 1 },
        2: { "ndcg@10": 0.5, empty: 1 },
      });
      expect(Object.keys(evaluation.refused)).toEqual([
        expect.stringContaining("content: must not be empty"),
      ]);
      expect(evaluation.sha256.documents).toMatch(/^[0-9a-f]{64}$/);
    } finally {
      await engine.remove();
    }
  });

  test("names a directory that holds no collection, and a line that is not JSON", async () => {
    await expect(readCollections(directory)).rejects.toThrow(/holds no collection/);
    await expect(readCollections(join(directory, "nowhere"))).rejects.toThrow(/cannot be read/);
    await write("broken", [], []);
    await writeFile(join(directory, "broken", "queries.jsonl"), '{"id": 1}\n{oops\n');
    await expect(readCollections(directory)).rejects.toThrow(/line 2 of .*queries.jsonl is not JSON/);
  });
});
