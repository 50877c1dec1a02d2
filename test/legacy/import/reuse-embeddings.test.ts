import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../../qa/fakes/ollama/index.ts";
import { readConfig } from "../../../src/app/config.ts";
import { type LocalClient, openLocalClient } from "../../../src/app/open-local-client.ts";
import { importSource } from "../../../src/legacy/import/import-source.ts";
import { decideReuse, findCandidates } from "../../../src/legacy/import/reuse-embeddings.ts";
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

// What is asked for is the same on both engines: Import takes the embeddings, and has tests of its own.
let ollama: FakeOllama;
let data: Awaited<ReturnType<typeof createDataDirectory>>;
let local: LocalClient;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let paths = 0;

/** Twenty sound memories, and after them one for each reason to embed anew. */
const MEMORIES = [
  ...Array.from({ length: 20 }, (_, n) => ({
    id: `good${n}`,
    content: `sound memory ${n} ${"with words ".repeat(n)}`.trim(),
  })),
  { id: "zero", content: "an embedding that is 0" },
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

/** Texts that were sent to be embedded. */
function embedded(): number {
  const texts = ollama.requests.flatMap(({ path, json }) =>
    path === "/api/embed" ? (json as { input: string | string[] }).input : [],
  );
  // Each batch has a text of the embedder's own, to see that all is well.
  return texts.filter((text) => text.startsWith("search_document: ")).length;
}

/** The embeddings that the model makes of the memories, by id. */
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
    // Not of unit length, as those of the PostgreSQL version.
    const floats = Array.from({ length: byteLength / 4 }, (_, n) => 4 * view.getFloat32(n * 4, true));
    vectors.set(item.value.memory?.id ?? "", floats);
  }
  return vectors;
}

const silentJournal = { brought: async () => {}, replaced: async () => {}, details: async () => {} };

/** A directory whose embeddings the present model has made. */
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
  // The sound ones last: the last rows are always compared.
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

test("takes over what is sound and what the model makes now, too, and makes the others anew", async () => {
  const path = await writeDirectory();
  const before = embedded();
  const { counts, sentences, verified } = await reuse(path, "reused");
  const { reused, created, unchanged } = counts;
  expect(reused).toBeGreaterThan(0);
  expect(reused + unchanged + created - reused).toBe(MEMORIES.length);
  expect(embedded() - before).toBe(MEMORIES.length - reused);
  expect(sentences).toEqual([
    expect.stringMatching(
      /^old embeddings are taken over: 1\d of 1\d that were compared are those that nomic-embed-text\S* makes now$/,
    ),
    "1 embeddings are made anew: it is 0",
    "1 embeddings are made anew: it missed a change of the memory",
    "1 embeddings are made anew: the old system had cut the text, or left out a part",
    "1 embeddings are made anew: there is none",
  ]);
  expect(verified).toMatchObject({ equal: MEMORIES.length, ready: MEMORIES.length });
  // Found by what they mean, each by its own.
  for (const { content, id } of MEMORIES.slice(0, 3)) {
    const { hits } = await local.client.search({ query: content, domain: "reused", limit: 1 });
    expect(hits[0]?.memory?.id).toBe(id);
  }
});

test("takes none if the last row has the vector of another text", async () => {
  const path = await writeDirectory((vectors) => vectors.set("good0", vectors.get("good1") ?? []));
  const { counts, sentences, verified } = await reuse(path, "shifted");
  expect(counts.reused).toBe(0);
  expect(sentences[0]).toMatch(
    /^no old embedding is taken over: (\d+) of \d+ that were compared .*, so that nobody knows about the others$/,
  );
  expect(verified).toMatchObject({ equal: MEMORIES.length, ready: MEMORIES.length });
});

test("takes none of another model, or made without prefixes", async () => {
  const { counts, sentences, verified } = await reuse(join(fixturesDirectory, "clean"), "other-model");
  expect(counts.reused).toBe(0);
  expect(sentences[0]).toMatch(
    /^no old embedding is taken over: 0 of 1\d that were compared .*: they are of another model, or were made without the prefixes/,
  );
  expect(verified).toMatchObject({ equal: 145, ready: 145 });
});

describe("refuses in one sentence", () => {
  test.each([
    ["no-vectors", /^the old embeddings cannot be taken over: there are none; leave out --reuse-vectors/],
    ["truncated-files", /faiss_index\.bin is cut/],
    [
      "corrupt-json-restarted",
      /faiss_index\.bin has 13 rows for 5 chunks: a crash between its files has shifted them/,
    ],
    ["dim1024", /^the old embeddings have 1024 dimensions, and nomic-embed-text\S* makes 768: leave out/],
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
      'faiss_index.bin is of the type "IxHN", and only IxF2 (IndexFlatL2) is known; leave out --reuse-vectors',
    );
    expect((await readFile(join(path, "faiss_index.bin"))).equals(bytes)).toBe(true);
  });
});
