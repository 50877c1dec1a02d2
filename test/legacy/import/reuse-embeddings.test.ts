import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../../qa/fakes/ollama/index.ts";
import { readConfig } from "../../../src/app/config.ts";
import { type LocalClient, openLocalClient } from "../../../src/app/open-local-client.ts";
import { importSource } from "../../../src/legacy/import/import-source.ts";
import { findCandidates } from "../../../src/legacy/import/reuse-candidates.ts";
import { decideReuse } from "../../../src/legacy/import/reuse-embeddings.ts";
import type { TargetDomain } from "../../../src/legacy/import/target-domain.ts";
import { verifySource } from "../../../src/legacy/import/verify-source.ts";
import { waitForEmbeddings } from "../../../src/legacy/import/wait-for-embeddings.ts";
import { openLegacySource } from "../../../src/legacy/readers/open-legacy-source.ts";
import { createDataDirectory } from "../../support/postgres/data-directory.ts";
import { silentLogger } from "../../support/silent-logger.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { fixturesDirectory } from "../fixtures.ts";
import { FIRST_TIME, indexOf, writeLegacyDirectory } from "../write-directory.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const never = new AbortController().signal;

// Runs on one engine only, because Import, which stores the embeddings, has its own tests on both.
let ollama: FakeOllama;
let data: Awaited<ReturnType<typeof createDataDirectory>>;
let local: LocalClient;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let paths = 0;

/** Twenty valid memories, followed by one for each reason to re-embed. */
const MEMORIES = [
  ...Array.from({ length: 20 }, (_, n) => ({
    id: `good${n}`,
    content: `valid memory ${n} ${"with words ".repeat(n)}`.trim(),
  })),
  { id: "zero", content: "an embedding that is zero" },
  { id: "stale", content: "changed without its embedding" },
  {
    id: "cut",
    content:
      "a short title\n\nand a paragraph that was long enough to be embedded, fifty characters at least",
  },
  { id: "missing", content: "without a chunk" },
];

beforeAll(async () => {
  ollama = await startFakeOllama();
  data = await createDataDirectory();
  directory = await temporaryDirectory();
  local = await openLocalClient(readConfig({ ...data.env, OLLAMA_API_URL: ollama.url }), silentLogger);
});

afterAll(async () => {
  await local?.close();
  await data?.[Symbol.asyncDispose]();
  await ollama?.close();
  await directory?.remove();
});

const targetOf = (domain: string): TargetDomain => ({
  client: local.client.raw,
  domain,
  name: "a test",
  remote: false,
});

/** Returns the number of texts that were embedded. */
function embedded(): number {
  const texts = ollama.requests.flatMap(({ path, json }) =>
    path === "/api/embed" ? (json as { input: string | string[] }).input : [],
  );
  // Without the text that the embedder adds to each batch as a self-test.
  return texts.filter((text) => text.startsWith("search_document: ")).length;
}

/** Returns the embeddings that the model computes for the memories, by id. */
async function embeddingsOfModel(): Promise<Map<string, number[]>> {
  const target = targetOf(`model${paths}`);
  const path = await writeLegacyDirectory(join(directory.path, `plain${paths++}`), MEMORIES);
  const source = await openLegacySource(path, never);
  await importSource(source, target, { onConflict: "skip", run: "r", journal: silentJournal, signal: never });
  await source.close();
  await waitForEmbeddings(target, () => {}, never);
  const vectors = new Map<string, number[]>();
  const exported = target.client.memories.export({ domain: target.domain, includeEmbeddings: true });
  for await (const { item } of exported) {
    if (item.case !== "record") continue;
    const [chunk] = item.value.chunks;
    if (chunk === undefined) continue;
    const { buffer, byteOffset, byteLength } = chunk.embedding;
    const view = new DataView(buffer, byteOffset, byteLength);
    // Scaled, because the embeddings of the PostgreSQL version do not have unit length.
    const floats = Array.from({ length: byteLength / 4 }, (_, n) => 4 * view.getFloat32(n * 4, true));
    vectors.set(item.value.memory?.id ?? "", floats);
  }
  return vectors;
}

const silentJournal = {
  appendImported: async () => {},
  appendReplaced: async () => {},
  appendDetails: async () => {},
};

/** Writes a data directory with embeddings of the current model. */
async function writeDirectory(change: (vectors: Map<string, number[]>) => void = () => {}): Promise<string> {
  const vectors = await embeddingsOfModel();
  change(vectors);
  const chunks = MEMORIES.flatMap(({ id, content }, n) =>
    id === "missing"
      ? []
      : [
          {
            text_id: id,
            content: id === "cut" ? content.slice(15) : content,
            vector: id === "zero" ? [0] : (vectors.get(id) ?? []),
            updated_at: FIRST_TIME + n - (id === "stale" ? 1 : 0),
            created_at: FIRST_TIME + n,
          },
        ],
  );
  // The valid ones last, because the last rows are always compared.
  chunks.reverse();
  return await writeLegacyDirectory(join(directory.path, `source${paths++}`), MEMORIES, chunks);
}

async function reuse(path: string, domain: string) {
  const target = targetOf(domain);
  const source = await openLegacySource(path, never);
  try {
    const candidates = findCandidates(source);
    const options = { onConflict: "skip", run: "r", journal: silentJournal, signal: never } as const;
    const decided = await decideReuse(
      source,
      target,
      candidates,
      async (only) => void (await importSource(source, target, { ...options, only })),
      never,
    );
    const { embeddings } = decided;
    const counts = await importSource(source, target, { ...options, ...(embeddings && { embeddings }) });
    await waitForEmbeddings(target, () => {}, never);
    const verified = await verifySource(source, target, { onDifference: async () => {}, signal: never });
    return { counts, sentences: decided.sentences, verified, candidates };
  } finally {
    await source.close();
  }
}

test("reuses valid embeddings that match the model, and re-embeds the others", async () => {
  const path = await writeDirectory();
  const before = embedded();
  const { counts, sentences, verified } = await reuse(path, "reused");
  const { reused, created, unchanged } = counts;
  expect(reused).toBeGreaterThan(0);
  expect(reused + unchanged + created - reused).toBe(MEMORIES.length);
  expect(embedded() - before).toBe(MEMORIES.length - reused);
  expect(sentences).toEqual([
    expect.stringMatching(
      /^old embeddings are reused: 1\d of 1\d compared embeddings match what nomic-embed-text\S* computes today$/,
    ),
    "1 memories are re-embedded: the old embedding is zero",
    "1 memories are re-embedded: the embedding missed a change of the memory",
    "1 memories are re-embedded: the old server split the text or dropped a part of it",
    "1 memories are re-embedded: the memory has none",
  ]);
  expect(verified).toMatchObject({ equal: MEMORIES.length, ready: MEMORIES.length });
  // Semantic search finds each memory by its own embedding.
  for (const { content, id } of MEMORIES.slice(0, 3)) {
    const { hits } = await local.client.search({ query: content, domain: "reused", limit: 1 });
    expect(hits[0]?.memory?.id).toBe(id);
  }
});

test("reuses none if the last row has the vector of another text", async () => {
  const path = await writeDirectory((vectors) => vectors.set("good0", vectors.get("good1") ?? []));
  const { counts, sentences, verified } = await reuse(path, "shifted");
  expect(counts.reused).toBe(0);
  expect(sentences[0]).toMatch(
    /^no old embedding is reused: (\d+) of \d+ compared embeddings .*, so that the others are uncertain$/,
  );
  expect(verified).toMatchObject({ equal: MEMORIES.length, ready: MEMORIES.length });
});

test("reuses none of another model or computed without prefixes", async () => {
  const { counts, sentences, verified } = await reuse(join(fixturesDirectory, "clean"), "other-model");
  expect(counts.reused).toBe(0);
  expect(sentences[0]).toMatch(
    /^no old embedding is reused: 0 of 1\d compared embeddings .*; they come from another model, or were computed without its prefixes/,
  );
  expect(verified).toMatchObject({ equal: 145, ready: 145 });
});

describe("fails with one sentence", () => {
  test.each([
    ["no-vectors", /^cannot reuse the old embeddings: there are none; omit --reuse-vectors/],
    ["truncated-files", /faiss_index\.bin is truncated/],
    [
      "corrupt-json-restarted",
      /faiss_index\.bin has 13 rows for 5 chunks; a crash between the writes of the two files shifted them/,
    ],
    ["dim1024", /^the old embeddings have 1024 dimensions, but nomic-embed-text\S* computes 768; omit/],
  ])("%s", async (fixture, sentence) => {
    await expect(reuse(join(fixturesDirectory, fixture), `refused-${fixture}`)).rejects.toThrow(sentence);
  });

  test("another type of index", async () => {
    const path = await writeLegacyDirectory(
      join(directory.path, "type"),
      [{ id: "a", content: "a" }],
      [{ text_id: "a", content: "a" }],
    );
    const bytes = Buffer.from(indexOf([[1]]));
    bytes.write("IxHN");
    await writeFile(join(path, "faiss_index.bin"), bytes);
    await expect(reuse(path, "refused-type")).rejects.toThrow(
      'faiss_index.bin has the type "IxHN"; only IxF2 (IndexFlatL2) is supported; omit --reuse-vectors',
    );
    expect((await readFile(join(path, "faiss_index.bin"))).equals(bytes)).toBe(true);
  });
});
