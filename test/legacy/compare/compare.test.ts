import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Memory_Embedding_State as State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { compareAnswers, summarizeComparisons } from "../../../src/legacy/compare/compare-answers.ts";
import { readQueries, sampleQueries } from "../../../src/legacy/compare/compare-queries.ts";
import { searchLegacy } from "../../../src/legacy/compare/search-legacy.ts";
import { legacyChunks } from "../../../src/legacy/readers/legacy-chunker.ts";
import { openLegacySource } from "../../../src/legacy/readers/open-legacy-source.ts";
import { MEMORIES } from "../../../src/legacy/readers/read-database.ts";
import { decodeText } from "../../../src/legacy/readers/stored-value.ts";
import { createDataDirectory } from "../../support/postgres/data-directory.ts";
import { openGrpcClient, runProgram, startServerProcess } from "../../support/server/server-process.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { copyFixture, readTruth } from "../fixtures.ts";
import { standInEmbedding, startStandInOllama } from "../stand-in-embedder.ts";

vi.setConfig({ testTimeout: 120_000 });

const { signal } = new AbortController();

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
beforeAll(async () => {
  directory = await temporaryDirectory();
});
afterAll(async () => await directory?.remove());

const question = (text: string, limit = 5, useVector = true) => ({
  text,
  limit,
  useVector,
  embedding: useVector ? standInEmbedding(text) : undefined,
});

describe("search in the old data", () => {
  test("finds exactly the memories with valid vectors", async () => {
    const source = await openLegacySource(await copyFixture("small", directory.path), signal);
    try {
      const truth = await readTruth("small");
      const contents = new Map(
        [...source.database.rows(MEMORIES)].map(({ id = null, content = null }) => [
          decodeText(id).text,
          decodeText(content).text,
        ]),
      );
      const sound = truth.memories.filter((one) => one.vector_state === "ok" && !one.text_stale);
      const silent = truth.memories.filter(
        (one) => one.vector_state === "zero" || one.vector_state === "none",
      );
      expect([sound.length, silent.length]).toEqual([147, 46]);
      const answers = await searchLegacy(
        source,
        sound.map(({ id }) => question(legacyChunks(contents.get(id) ?? "")[0] ?? "")),
        signal,
      );
      const silentIds = new Set(silent.map(({ id }) => id));
      for (const [index, { id }] of sound.entries()) {
        const hits = answers[index]?.hits ?? [];
        const best = hits.filter(({ similarity = 0 }) => similarity > 0.9999).map((hit) => hit.id);
        // Equal texts, and texts without any word, have equal vectors.
        if (best.length < 5) expect(best, contents.get(id)).toContain(id);
        expect(hits.filter((hit) => silentIds.has(hit.id))).toEqual([]);
      }
    } finally {
      await source.close();
    }
  });

  test("searches the text if vectors are not requested or are missing", async () => {
    const clean = await openLegacySource(await copyFixture("clean", directory.path), signal);
    const bare = await openLegacySource(await copyFixture("no-vectors", directory.path), signal);
    try {
      const [umlaut, percent, none, everything] = await searchLegacy(
        clean,
        [
          question("grünkohl", 5, false),
          question("100%", 5, false),
          question("no such text", 5, false),
          question("", 500),
        ],
        signal,
      );
      expect(umlaut).toMatchObject({ hits: [{ similarity: undefined }], clear: true });
      expect(percent?.hits.length).toBeGreaterThan(1);
      expect(none?.hits).toEqual([]);
      expect(everything?.hits).toHaveLength(145);
      const [text] = sampleQueries(bare, { count: 1, limit: 3 });
      const [found] = await searchLegacy(bare, [question(text?.text ?? "")], signal);
      expect(found?.hits.length).toBeGreaterThan(0);
      await expect(
        searchLegacy(clean, [{ ...question("x"), embedding: new Float32Array(3).fill(1) }], signal),
      ).rejects.toThrow("the old vectors have 768 dimensions");
    } finally {
      await clean.close();
      await bare.close();
    }
  });
});

test("reads queries from lines and JSON, and takes samples of stored memories", async () => {
  const read = async (text: string) => {
    const path = join(directory.path, "queries");
    await writeFile(path, text);
    return await readQueries(path, { limit: 7, dimensions: 3 });
  };
  const plain = { limit: 7, useVector: true, embedding: undefined };
  expect(await read("one\r\n\ntwo words\n")).toEqual([
    { text: "one", ...plain },
    { text: "two words", ...plain },
  ]);
  expect(
    await read('["one", {"query": "two", "limit": 2, "use_vector": false, "embedding": [1, 2, 3]}]'),
  ).toEqual([
    { text: "one", ...plain },
    { text: "two", limit: 2, useVector: false, embedding: Float32Array.of(1, 2, 3) },
  ]);
  expect(
    await read('{"queries": [{"query": "a", "query_embedding_raw_nonzero": {"2": 4}}], "note": ""}'),
  ).toEqual([{ text: "a", ...plain, embedding: Float32Array.of(0, 0, 4) }]);
  await expect(read("[")).rejects.toThrow("is not JSON");
  await expect(read('[{"text": "a"}]')).rejects.toThrow("does not contain queries");
  await expect(readQueries(join(directory.path, "nowhere"), { limit: 1, dimensions: 1 })).rejects.toThrow(
    "cannot read",
  );
});

test("compares results by their common memories and their top memory", () => {
  const hits = ["a", "b", "c"].map((id) => ({ id, similarity: 1 }));
  const moved = compareAnswers("q", { hits, clear: true }, ["b", "x", "a"]);
  expect(moved).toMatchObject({ common: 2, sameTop: false });
  expect(moved.ranks.map((rank) => rank.new)).toEqual([3, 1, undefined]);
  const same = compareAnswers("r", { hits: hits.slice(0, 1), clear: true }, ["a", "b"]);
  const empty = compareAnswers("s", { hits: [], clear: false }, []);
  expect(summarizeComparisons([moved, same, empty])).toEqual({
    queries: 3,
    sameTop: 2,
    clear: 2,
    clearSameTop: 1,
    overlap: 3 / 4,
    meanRankChange: 1,
  });
});

const queries = [
  ...[
    "database with vectors",
    "release codename",
    "kiwis and sextants",
    "Grünkohl",
    "会議は水曜日",
    "volcanoes",
  ],
  ...[
    "The very same sentence stored twice on purpose by two conversations.",
    "what does the user like to drink",
    "",
    "memory",
  ],
  ...["grünkohl", "xylophone", "under_score", "meeting"].map((query) => ({ query, use_vector: false })),
];

test("a service with the same memories returns every clear top memory of the old data", async () => {
  await using ollama = await startStandInOllama();
  await using data = await createDataDirectory();
  const env = { ...data.env, OLLAMA_API_URL: ollama.url, OLLAMA_EMBEDDING_MODEL: "stand-in" };
  await using server = await startServerProcess({ env });
  using grpc = openGrpcClient(server.url);
  const path = await copyFixture("clean", join(directory.path, "old"));
  const source = await openLegacySource(path, signal);
  const items = [...source.database.rows(MEMORIES)].map(({ id = null, content = null }) => ({
    id: decodeText(id).text,
    content: decodeText(content).text,
  }));
  await source.close();
  for (let first = 0; first < items.length; first += 50) {
    await grpc.client.batchStore({
      items: items.slice(first, first + 50).filter(({ content }) => content.trim() !== ""),
    });
  }
  const file = join(directory.path, "queries.json");
  await writeFile(file, JSON.stringify(queries));
  const args = ["compare", path, "--server", server.url];
  const run = async (...more: string[]) => {
    const { code, stdout, stderr } = await runProgram([...args, "--json", ...more], { env });
    expect(stderr).toBe("");
    return { code, ...JSON.parse(stdout) };
  };
  await vi.waitFor(
    async () => {
      const { memories } = await grpc.client.list({ pageSize: 1_000 });
      // Both chunks of a text that repeats one letter have the same embedding, which the embedder rejects as a fault.
      expect(memories.filter(({ embedding }) => embedding?.state !== State.READY).length).toBeLessThan(3);
    },
    { timeout: 60_000, interval: 500 },
  );
  const semantic = await run("--queries", file, "--mode", "semantic");
  expect(semantic).toMatchObject({ code: 0, summary: { queries: 14, clear: 8, clearSameTop: 8 } });
  expect(semantic.summary.overlap).toBeGreaterThan(0.5);
  const hybrid = await run("--queries", file);
  expect(hybrid).toMatchObject({ code: 0, summary: { queries: 14, clear: 8, clearSameTop: 8 }, notes: [] });
  expect(hybrid.queries[0]).toMatchObject({ query: "database with vectors", clear: true, sameTop: true });
  const sampled = await run("--sample", "20", "--limit", "3");
  expect(sampled.summary).toMatchObject({ queries: 20 });
  expect(sampled.summary.clearSameTop / sampled.summary.clear).toBeGreaterThan(0.9);

  await grpc.client.delete({ id: hybrid.queries[0].ranks[0].id });
  const { code, stdout } = await runProgram([...args, "--queries", file], { env });
  expect(code).toBe(1);
  expect(stdout).toMatch(/^clear +\d\/5 +old top is not in the new result +database with vectors$/m);
  expect(stdout).toContain("14 queries: ");
  expect(await readFile(file, "utf8")).toBe(JSON.stringify(queries));
});

test("reports a wrong directory in one sentence", async () => {
  const { code, stdout, stderr } = await runProgram(["compare", directory.path]);
  expect([code, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(/^memory-service: .*memory\.db.*\n$/);
});
