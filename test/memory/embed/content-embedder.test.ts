import { describe, expect, test } from "vitest";
import { createContentEmbedder, embedBudget } from "../../../src/memory/embed/content-embedder.ts";
import { type Embedder, EmbedError } from "../../../src/memory/model/embedder.ts";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { within } from "../../../src/util/wait.ts";
import { domainRecord } from "../../support/drafts.ts";
import {
  createScriptedEmbedder,
  type ScriptedEmbedder,
  scriptedSpace,
} from "../../support/in-process/scripted-embedder.ts";
import { silentLogger } from "../../support/silent-logger.ts";

/** As much of a repository as numbers embedding versions. */
function createVersions() {
  const known: string[] = [];
  const registered: string[] = [];
  const repository: Pick<Repository, "registerEmbeddingVersion" | "useEmbeddingVersion"> = {
    async registerEmbeddingVersion(space, chunker) {
      const key = JSON.stringify([space, chunker]);
      registered.push(key);
      if (!known.includes(key)) known.push(key);
      return known.indexOf(key) + 1;
    },
    async useEmbeddingVersion(name, embeddingVersion, dimensions) {
      return domainRecord({ name, embeddingVersion, dimensions });
    },
  };
  return { registered, repository: repository as Repository };
}

function start(options: Parameters<typeof createScriptedEmbedder>[0] & { embedder?: Embedder } = {}) {
  const embedder = createScriptedEmbedder(options);
  const { repository, registered } = createVersions();
  const contents = createContentEmbedder({
    embedder: options.embedder ?? embedder,
    repository,
    logger: silentLogger,
  });
  return { embedder, contents, registered };
}

const textsOf = ({ calls }: ScriptedEmbedder) => calls.map(({ texts }) => texts);
/** What each chunk covers, found by code points as the database does. */
const textOf = (content: string, chunk: { start: number; end: number }) =>
  [...content].slice(chunk.start, chunk.end).join("");

describe("a content", () => {
  test("that fits is one chunk", async () => {
    const { contents, embedder } = start();
    const embedding = await contents.embedContent("apple @0");
    expect(embedding).toMatchObject({ version: 1, chunks: [{ start: 0, end: 8 }] });
    expect(Array.from(embedding.chunks[0]?.vector ?? [])).toEqual([1, 0, 0]);
    expect(embedder.calls).toEqual([{ texts: ["apple @0"], role: "document" }]);
    expect(contents.countChunks("apple @0")).toBe(1);
  });

  test("that is long is split into chunks that cover it, in code points", async () => {
    const content = Array.from({ length: 30 }, (_, i) => `Satz ${i} mit 😀 und ä.`).join(" ");
    const { contents, embedder } = start({ maxChunkLength: 60 });
    const { chunks } = await contents.embedContent(content);
    expect(chunks.length).toBe(contents.countChunks(content));
    expect(chunks.map((chunk) => textOf(content, chunk)).join("")).toBe(content);
    expect(chunks.map((chunk) => textOf(content, chunk))).toEqual(textsOf(embedder).flat());
    for (const [i, chunk] of chunks.entries()) expect(chunk.start).toBe(chunks[i - 1]?.end ?? 0);
  });

  test("of many chunks is passed to the embedder in parts", async () => {
    const { contents, embedder } = start({ maxChunkLength: 10 });
    const { chunks } = await contents.embedContent("123456789 ".repeat(200));
    expect(chunks).toHaveLength(200);
    expect(textsOf(embedder).map(({ length }) => length)).toEqual([64, 64, 64, 8]);
  });

  test("omits chunks that contain only white space", async () => {
    const content = `one${" ".repeat(100)}two`;
    const { contents, embedder } = start({ maxChunkLength: 20 });
    const { chunks } = await contents.embedContent(content);
    expect(chunks.map((chunk) => textOf(content, chunk).trim())).toEqual(["one", "two"]);
    expect(
      textsOf(embedder)
        .flat()
        .every((text) => text.trim() !== ""),
    ).toBe(true);
    expect(contents.countChunks(content)).toBe(2);
  });

  test("that is still too long for the model is split again, without loss", async () => {
    const content = `${"dense ".repeat(40)}😀 ${"light ".repeat(40)}`;
    const { contents, embedder } = start({ maxChunkLength: 200 });
    embedder.failing = (text) => (text.length > 60 ? "too-long" : undefined);
    const { chunks } = await contents.embedContent(content);
    expect(chunks.map((chunk) => textOf(content, chunk)).join("")).toBe(content);
    expect(chunks.every((chunk) => chunk.end - chunk.start <= 60)).toBe(true);
  });

  test("of a query that is too long is the mean of its pieces", async () => {
    const { contents, embedder } = start({ maxChunkLength: 100 });
    const query = "one question, asked at length. ".repeat(8);
    const { vector } = await contents.embedQuery(query);
    expect(textsOf(embedder).flat().length).toBeGreaterThan(1);
    expect(textsOf(embedder).flat().join("")).toBe(query);
    expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    embedder.failing = (text) => (text.length > 60 ? "too-long" : undefined);
    await expect(contents.embedQuery("dense words ".repeat(8))).resolves.toMatchObject({
      version: expect.any(Number),
    });
  });

  test("fails if its smallest piece is too long for the model", async () => {
    const { contents, embedder } = start();
    embedder.failing = () => "too-long";
    await expect(contents.embedContent("x".repeat(500))).rejects.toMatchObject({ kind: "too-long" });
    expect(embedder.calls.length).toBeLessThan(100);
  });

  test.each(["unavailable", "model-missing", "rejected"] as const)(
    "fails as its embedder does: %s",
    async (kind) => {
      const { contents, embedder } = start({ maxChunkLength: 40 });
      embedder.failing = (text) => (text.includes("bad") ? kind : undefined);
      const content = `${"good ".repeat(20)}bad ${"good ".repeat(20)}`;
      await expect(contents.embedContent(content)).rejects.toMatchObject({ name: "EmbedError", kind });
    },
  );

  test("fails if the model changes during the call, and can be retried", async () => {
    const { contents, embedder } = start();
    const release = embedder.hold();
    const embedding = contents.embedContent("apple");
    embedder.arrive({ ...scriptedSpace, digest: "2" });
    release();
    await expect(embedding).rejects.toMatchObject({ kind: "unavailable" });
    expect(await contents.embedContent("apple")).toMatchObject({ version: 1 });
  });

  test("fails if the embedder returns too few vectors", async () => {
    const embedder = { ...createScriptedEmbedder(), embed: async () => [] };
    const { contents } = start({ embedder });
    await expect(contents.embedContent("apple")).rejects.toThrow(EmbedError);
    await expect(contents.embedQuery("apple")).rejects.toThrow(EmbedError);
  });
});

test("a query is embedded as one, in its role", async () => {
  const { contents, embedder } = start();
  expect(await contents.embedQuery("apple @180")).toMatchObject({ version: 1 });
  expect(embedder.calls).toEqual([{ texts: ["apple @180"], role: "query" }]);
});

describe("the embedding version", () => {
  test("is not known before the model is", async () => {
    const { contents, registered } = start({ known: false });
    expect(await contents.current()).toBeUndefined();
    expect(registered).toEqual([]);
  });

  test("is registered once for each space", async () => {
    const { contents, embedder, registered } = start();
    for (let i = 0; i < 3; i++) expect(await contents.current()).toEqual({ version: 1, dimensions: 3 });
    embedder.arrive({ ...scriptedSpace, digest: "2", dimensions: 5 });
    for (let i = 0; i < 3; i++) expect(await contents.current()).toEqual({ version: 2, dimensions: 5 });
    embedder.arrive();
    expect(await contents.current()).toEqual({ version: 1, dimensions: 3 });
    expect(registered).toHaveLength(2);
  });

  test("switches a domain that uses another version or none, and no others", async () => {
    const { contents } = start();
    const domain = domainRecord({ name: "d" });
    const moved = { ...domain, dimensions: 3, embeddingVersion: 1 };
    expect(await contents.align(domain)).toEqual(moved);
    expect(await contents.align({ ...moved, embeddingVersion: 7 })).toEqual(moved);
    expect(await contents.align(moved)).toBe(moved);
    const unknown = start({ known: false });
    expect(await unknown.contents.align(domain)).toBe(domain);
  });
});

test.each([
  [2_000, undefined, 2_000],
  [2_000, 10_000, 2_000],
  [2_000, 1_000, 500],
  [2_000, 0, 0],
  [2_000, -5, 0],
  [0, undefined, 0],
])("a budget of %d ms with %s ms left is %d ms", (budget, remaining, expected) => {
  expect(embedBudget(budget, remaining)).toBe(expected);
});

test("within() returns the value, the failure, or undefined after the time", async () => {
  const never = new Promise<string>(() => {});
  expect(await within(Promise.resolve("done"), 60_000)).toBe("done");
  await expect(within(Promise.reject(new Error("failed")), 60_000)).rejects.toThrow("failed");
  expect(await within(never, 0)).toBeUndefined();
});
