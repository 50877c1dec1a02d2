import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { CallerEmbedding } from "../../../src/memory/model/caller-embedding.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { at, newDomainName } from "../../support/drafts.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

describe.each(databaseEngines())("a caller-supplied embedding on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let version: number;

  beforeAll(async () => {
    database = await open();
  });
  afterAll(() => database.close());
  beforeEach(async () => {
    useCases = createUseCases(database);
    await useCases.store({ id: "first", content: "first @170" });
    version = (await useCases.repository.findDomain(useCases.domain))?.embeddingVersion ?? 0;
    useCases.embedder.calls.length = 0;
  });

  const own = (degrees: number, other = version): CallerEmbedding => ({
    vector: at(degrees),
    version: other,
  });
  const nearest = async (degrees: number) => {
    const { hits } = await useCases.find({ query: "", mode: "semantic", embedding: own(degrees), limit: 1 });
    return hits.map(({ id, similarity }) => [id, similarity?.toFixed(4)]);
  };

  test("is used for semantic search, without calling the embedder", async () => {
    // The embedder would return 90 degrees.
    const { memory } = await useCases.store({ id: "m", content: "somewhere @90", embedding: own(20) });
    expect(memory).toMatchObject({ chunkCount: 1, embedding: { state: "ready", version } });
    expect(await nearest(20)).toEqual([["m", "1.0000"]]);
    expect(useCases.embedder.calls).toEqual([]);
  });

  test("covers the whole content, measured in characters", async () => {
    await useCases.store({ id: "m", content: "😀é", embedding: own(20) });
    const { hits } = await useCases.find({ query: "", mode: "semantic", embedding: own(20), limit: 1 });
    expect(hits[0]?.snippet).toEqual({ text: "😀é", start: 0, end: 2 });
  });

  test("is stored while the embedder is unavailable", async () => {
    useCases.embedder.leave();
    const { memory } = await useCases.store({ id: "m", embedding: own(20) });
    expect(memory.embedding.state).toBe("ready");
  });

  test("replaces the embedding of the same content if other fields differ", async () => {
    await useCases.store({ id: "m", content: "somewhere @90" });
    const again = { id: "m", content: "somewhere @90", source: "new", ifExists: "replace" } as const;
    expect((await useCases.store({ ...again, embedding: own(20) })).outcome).toBe("replaced");
    expect(await nearest(20)).toEqual([["m", "1.0000"]]);
    expect((await useCases.store({ ...again, embedding: own(30) })).outcome).toBe("unchanged");
    expect(await nearest(20)).toEqual([["m", "1.0000"]]);
  });

  test("is accepted by Update with new or unchanged content", async () => {
    await useCases.store({ id: "m", content: "somewhere @90" });
    useCases.embedder.calls.length = 0;
    await useCases.update("m", { content: "elsewhere @91" }, { embedding: own(20) });
    expect(await nearest(20)).toEqual([["m", "1.0000"]]);
    await useCases.update("m", { content: "elsewhere @91" }, { embedding: own(30) });
    expect(await nearest(30)).toEqual([["m", "1.0000"]]);
    expect(useCases.embedder.calls).toEqual([]);
  });

  test("is checked separately for each item of a batch", async () => {
    const results = await useCases.batchStore([
      { id: "own", content: "own @90", embedding: own(20) },
      { id: "made", content: "made @60" },
      { id: "wrong", content: "wrong @0", embedding: own(0, version + 1_000) },
      { id: "short", content: "short @0", embedding: { vector: Float32Array.of(1, 0), version } },
    ]);
    expect(results.map((result) => (result instanceof Error ? result.message : result.outcome))).toEqual([
      "created",
      "created",
      `items[2].embedding.embedding_version: must be the embedding version of the domain, which is ${version}; is ${version + 1_000}`,
      "items[3].embedding.values: must have the 3 dimensions of the embedding version, has 2",
    ]);
    expect(await nearest(20)).toEqual([["own", "1.0000"]]);
    expect(await nearest(60)).toEqual([["made", "1.0000"]]);
    expect(await useCases.read("wrong")).toBeUndefined();
  });

  test.each(["Store", "Update"])(
    "that the domain does not use is refused by %s, and nothing is done",
    async (way) => {
      const attempt = (embedding: CallerEmbedding) =>
        way === "Store"
          ? useCases.store({ id: "m", embedding })
          : useCases.update("first", { content: "changed" }, { embedding });
      await expect(attempt(own(0, version + 1_000))).rejects.toMatchObject({
        reason: "INVALID_ARGUMENT",
        violations: [{ field: "embedding.embedding_version" }],
      });
      await expect(attempt({ vector: Float32Array.of(0, 1), version })).rejects.toMatchObject({
        reason: "INVALID_ARGUMENT",
        violations: [{ field: "embedding.values" }],
      });
      expect(await useCases.read("m")).toBeUndefined();
      expect((await useCases.read("first"))?.content).toBe("first @170");
    },
  );

  test("creates a domain only if the domain will use it", async () => {
    const name = newDomainName();
    await expect(
      useCases.store({ domain: name, id: "m", embedding: own(0, version + 1_000) }),
    ).rejects.toMatchObject({ reason: "INVALID_ARGUMENT" });
    expect(await useCases.repository.findDomain(name)).toBeUndefined();
    const { memory } = await useCases.store({ domain: name, id: "m", embedding: own(0) });
    expect(memory.embedding.state).toBe("ready");
  });
});
