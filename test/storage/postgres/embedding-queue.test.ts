import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { parseTextQuery } from "../../../src/memory/model/text-query.ts";
import { SNIPPET_LENGTH } from "../../../src/memory/search/snippet.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { at, draft, embedding, microsecondsFromNow, newDomainName } from "../../support/drafts.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";
import { requireDeclaredWrites } from "../../support/postgres/require-declared-writes.ts";

const LEASE_MS = 60_000;

describe.each(databaseEngines())("pending embeddings on $name", ({ open, engine }) => {
  let database: Database;
  let repository: Repository;
  let domain: string;
  let version: number;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
    repository = createPostgresRepository(requireDeclaredWrites(database));
    version = await versionOf("a");
  });
  afterAll(() => database.close());
  beforeEach(async () => {
    domain = newDomainName();
    await repository.createDomain(domain, 3);
    await repository.useEmbeddingVersion(domain, version, 3);
  });

  const versionOf = (model: string, dimensions = 3) =>
    repository.registerEmbeddingVersion({ model, digest: "", dimensions, profile: "p/1" }, 1);
  const insert = async (fields: Parameters<typeof draft>[0] = {}) => {
    const memory = await repository.insert(domain, draft(fields));
    if (memory === undefined) throw new Error("the id is taken");
    return memory;
  };
  const lease = (limit = 100, leaseMs = LEASE_MS) => repository.leasePending(domain, version, limit, leaseMs);
  const find = async (angle: number, embeddingVersion = version) => {
    const { candidates } = await repository.searchSemantic(domain, {
      embedding: at(angle),
      embeddingVersion,
      depth: 10,
      minSimilarity: undefined,
    });
    return candidates.map(({ id }) => id);
  };
  const read = async (id: string) => {
    const [found] = await repository.fetch(domain, [{ id, chunkIndex: undefined }], {
      content: true,
      snippetLength: SNIPPET_LENGTH,
    });
    return found?.memory;
  };
  const countChunks = async (id: string) => {
    const rows = await database.query({ text: `select from "${domain}_chunks" where memory_id = $1` }, [id]);
    return rows.length;
  };

  test("are leased with their content and its hash, the longest due first", async () => {
    const first = await insert({ content: "first" });
    const second = await insert({ content: "second" });
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode("first")));
    expect(await lease(1)).toEqual([{ id: first.id, content: "first", contentHash: hash, attempts: 1 }]);
    expect(await lease(1)).toMatchObject([{ id: second.id, content: "second", attempts: 1 }]);
    expect(await lease(1)).toEqual([]);
  });

  test("are due again when the lease expires, and count the attempts", async () => {
    const { id } = await insert();
    expect(await lease(1, 0)).toMatchObject([{ id, attempts: 1 }]);
    expect(await lease(1, 0)).toMatchObject([{ id, attempts: 2 }]);
  });

  test("are reserved for their writer during its lease", async () => {
    const { id } = await insert({ leaseMs: LEASE_MS });
    expect(await lease()).toEqual([]);
    await repository.releaseEmbedding(domain, id);
    expect(await lease()).toMatchObject([{ id }]);
  });

  test("are never leased twice", async () => {
    for (let i = 0; i < 60; i++) await insert({ id: `m${i}` });
    const leased: string[] = [];
    const work = async () => {
      for (let tries = 0; tries < 40; tries++) {
        for (const { id } of await lease(3)) leased.push(id);
      }
    };
    await Promise.all([work(), work(), work(), work()]);
    expect(leased).toHaveLength(60);
    expect(new Set(leased).size).toBe(60);
  });

  // The embedded engine has one connection, so nothing runs concurrently with a transaction.
  if (engine !== "embedded") {
    test("are not leased by a second worker before the first has committed", async () => {
      for (let i = 0; i < 5; i++) await insert({ id: `m${i}` });
      const other = await database.transaction(async (transaction) => {
        await transaction.query({
          text: `select from "${domain}_memories" where id in ('m0', 'm1') for update`,
        });
        return await lease(3);
      });
      expect(other.map(({ id }) => id)).toEqual(["m2", "m3", "m4"]);
    });
  }

  test("that have expired are skipped, and do not block others", async () => {
    for (let i = 0; i < 20; i++) {
      await insert({ id: `gone${i}`, expiry: { kind: "at", time: microsecondsFromNow(-3_600) } });
    }
    const { id } = await insert();
    expect((await lease(10)).map((memory) => memory.id)).toEqual([id]);
  });

  test("become ready with all their chunks, without changing version and times", async () => {
    const before = await insert({ content: "0123456789abcdefghij" });
    const [memory] = await lease();
    expect(memory).toBeDefined();
    if (memory === undefined) return;
    expect(await repository.completeEmbedding(domain, memory, embedding(version, 0, 90))).toBe(true);
    expect(await read(before.id)).toEqual({
      ...before,
      chunkCount: 2,
      embedding: { state: "ready", failureReason: "", version },
    });
    expect(await find(90)).toEqual([before.id]);
    expect(await countChunks(before.id)).toBe(1);
    expect(await lease()).toEqual([]);
  });

  test("stay pending if their content has changed in the meantime", async () => {
    const { id } = await insert({ content: "old" });
    const [memory] = await lease();
    if (memory === undefined) throw new Error("nothing was leased");
    await repository.change(domain, id, () => draft({ id, content: "new" }));
    expect(await repository.completeEmbedding(domain, memory, embedding(version, 0, 90))).toBe(false);
    await repository.failEmbedding(domain, memory, "refused");
    expect((await read(id))?.embedding.state).toBe("pending");
    expect(await find(0)).toEqual([]);
    expect(await lease()).toMatchObject([{ id, content: "new", attempts: 1 }]);
  });

  test("keep a caller-supplied embedding that was written in the meantime", async () => {
    const { id } = await insert();
    const [memory] = await lease();
    if (memory === undefined) throw new Error("nothing was leased");
    const own = embedding(version, 45);
    await repository.change(domain, id, () => draft({ id, embedding: own }));
    expect(await repository.completeEmbedding(domain, memory, embedding(version, 0, 90))).toBe(false);
    await repository.failEmbedding(domain, memory, "refused");
    expect((await read(id))?.embedding).toEqual({ state: "ready", failureReason: "", version });
    expect((await repository.readEmbeddings(domain, [{ id, version: 2n }], version)).get(id)).toMatchObject([
      { vector: own.chunks[0]?.vector },
    ]);
    expect(await countChunks(id)).toBe(0);
  });

  test("are leased up to 1 MiB of content, and at least one", async () => {
    for (let i = 0; i < 4; i++) await insert({ id: `m${i}`, content: `${i}${"x".repeat(600_000)}` });
    expect((await lease()).map(({ id }) => id).sort()).toHaveLength(2);
    expect((await lease()).map(({ id }) => id)).toHaveLength(2);
    expect(await lease()).toEqual([]);
    await insert({ id: "long", content: "x".repeat(1_048_576) });
    await insert({ id: "short", content: "x" });
    expect((await lease()).map(({ id }) => id)).toEqual(["long"]);
    expect((await lease()).map(({ id }) => id)).toEqual(["short"]);
  });

  test("that were deleted in the meantime are not restored", async () => {
    const { id } = await insert();
    const [memory] = await lease();
    if (memory === undefined) throw new Error("nothing was leased");
    await database.query({ text: `delete from "${domain}_memories" where id = $1` }, [id]);
    expect(await repository.completeEmbedding(domain, memory, embedding(version, 0, 90))).toBe(false);
    expect(await countChunks(id)).toBe(0);
  });

  test("are postponed, and the attempt counts only if requested", async () => {
    const { id } = await insert();
    await lease(1);
    await repository.postponeEmbedding(domain, [id], LEASE_MS, false);
    expect(await lease()).toEqual([]);
    await repository.postponeEmbedding(domain, [id], 0, true);
    expect(await lease()).toMatchObject([{ id, attempts: 1 }]);
    await repository.postponeEmbedding(domain, [id], 0, true);
    expect(await lease()).toMatchObject([{ id, attempts: 2 }]);
  });

  test("never count less than zero attempts", async () => {
    const { id } = await insert();
    await lease();
    await repository.change(domain, id, () => draft({ id, content: "new" }));
    await repository.postponeEmbedding(domain, [id], 0, false);
    expect(await lease()).toMatchObject([{ id, attempts: 1 }]);
  });

  test("that fail report why, are found by full-text search and not leased again", async () => {
    const { id } = await insert({ content: "poison apple" });
    const [memory] = await lease();
    if (memory === undefined) throw new Error("nothing was leased");
    await repository.failEmbedding(domain, memory, "the model makes NaN of it");
    expect((await read(id))?.embedding).toEqual({
      state: "failed",
      failureReason: "the model makes NaN of it",
      version: undefined,
    });
    expect(await lease(1, 0)).toEqual([]);
    expect(
      await repository.searchText(domain, { terms: parseTextQuery("apple"), depth: 10, minScore: undefined }),
    ).toMatchObject({ candidates: [{ id }] });
    // New content is attempted again.
    await repository.change(domain, id, () => draft({ id, content: "apple" }));
    expect((await read(id))?.embedding).toMatchObject({ state: "pending", failureReason: "" });
    expect(await lease()).toMatchObject([{ id, attempts: 1 }]);
  });

  test("of another version with the same dimensions are due, and are not compared until they are re-embedded", async () => {
    const { id } = await insert({ embedding: embedding(version, 0, 90), chunkCount: 2 });
    const next = await versionOf("b");
    const moved = await repository.useEmbeddingVersion(domain, next, 3);
    expect(moved).toMatchObject({ embeddingVersion: next, dimensions: 3 });
    expect(await repository.findDomain(domain)).toEqual(moved);
    expect((await read(id))?.embedding).toEqual({ state: "ready", failureReason: "", version });
    expect(await find(0, next)).toEqual([]);
    expect(await find(90, next)).toEqual([]);
    expect(await find(0, version)).toEqual([id]);

    const [memory, ...more] = await repository.leasePending(domain, next, 10, LEASE_MS);
    expect(more).toEqual([]);
    if (memory === undefined) throw new Error("nothing was leased");
    await repository.completeEmbedding(domain, memory, embedding(next, 45));
    expect(await find(0, next)).toEqual([id]);
    expect(await find(0, version)).toEqual([]);
    expect(await repository.leasePending(domain, next, 10, LEASE_MS)).toEqual([]);
    expect(await countChunks(id)).toBe(0);
    // Completing the work ended the lease, so another version does not wait for it.
    const further = await versionOf("c");
    await repository.useEmbeddingVersion(domain, further, 3);
    expect(await repository.leasePending(domain, further, 10, 0)).toMatchObject([{ id, attempts: 1 }]);
  });

  test("are not leased for a version that the domain no longer uses", async () => {
    const { id } = await insert({ content: "pending" });
    const [memory] = await lease();
    if (memory === undefined) throw new Error("nothing was leased");
    const next = await versionOf("b");
    await repository.useEmbeddingVersion(domain, next, 3);
    await insert({ content: "another" });
    expect(await lease(100, 0)).toEqual([]);
    expect(await repository.completeEmbedding(domain, memory, embedding(version, 0))).toBe(false);
    expect((await read(id))?.embedding.state).toBe("pending");

    expect(await repository.completeEmbedding(domain, memory, embedding(next, 0))).toBe(true);
    // The old version neither re-embeds the work of the new server nor overwrites it by a late embedding.
    expect(await lease(100, 0)).toEqual([]);
    expect(await repository.completeEmbedding(domain, memory, embedding(version, 90))).toBe(false);
    expect(await find(0, next)).toEqual([id]);
  });

  test("of another version that fail lose their embedding and chunks", async () => {
    const { id } = await insert({ embedding: embedding(version, 0, 90), chunkCount: 2 });
    const next = await versionOf("b");
    await repository.useEmbeddingVersion(domain, next, 3);
    const [memory] = await repository.leasePending(domain, next, 10, LEASE_MS);
    if (memory === undefined) throw new Error("nothing was leased");
    await repository.failEmbedding(domain, memory, "refused");
    await repository.useEmbeddingVersion(domain, version, 3);
    expect(await find(90)).toEqual([]);
    expect(await countChunks(id)).toBe(0);
  });

  test("of a version with other dimensions are deleted and recomputed", async () => {
    const ready = await insert({ content: "ready one", embedding: embedding(version, 0, 90), chunkCount: 2 });
    const failed = await insert({ content: "failed one" });
    const [memory] = await lease();
    if (memory === undefined) throw new Error("nothing was leased");
    await repository.failEmbedding(domain, memory, "refused");

    const wide = await versionOf("wide", 5);
    expect(await repository.useEmbeddingVersion(domain, wide, 5)).toMatchObject({
      dimensions: 5,
      embeddingVersion: wide,
    });
    expect((await read(ready.id))?.embedding).toEqual({
      state: "pending",
      failureReason: "",
      version: undefined,
    });
    expect((await read(failed.id))?.embedding.state).toBe("failed");
    expect(await countChunks(ready.id)).toBe(0);
    expect(
      (await repository.searchText(domain, { terms: parseTextQuery("one"), depth: 10, minScore: undefined }))
        .candidates,
    ).toHaveLength(2);

    const [due] = await repository.leasePending(domain, wide, 10, LEASE_MS);
    expect(due).toMatchObject({ id: ready.id, attempts: 1 });
    if (due === undefined) return;
    const vector = Float32Array.of(0, 0, 0, 0, 1);
    const chunks = [{ start: 0, end: 9, vector }];
    await repository.completeEmbedding(domain, due, { version: wide, chunks });
    const { candidates } = await repository.searchSemantic(domain, {
      embedding: vector,
      embeddingVersion: wide,
      depth: 10,
      minSimilarity: undefined,
    });
    expect(candidates).toEqual([{ id: ready.id, score: 1, chunkIndex: 0 }]);
  });

  test("do not block readers and writers while their dimensions change", async () => {
    const wide = await versionOf("wide", 5);
    for (let i = 0; i < 20; i++)
      await insert({ id: `m${i}`, embedding: embedding(version, 0, 90), chunkCount: 2 });
    const hits = Array.from({ length: 20 }, (_, i) => ({ id: `m${i}`, chunkIndex: 1 }));
    let moving = true;
    const busy = async (work: () => Promise<unknown>) => {
      while (moving) await work();
    };
    const others = [
      busy(() => repository.fetch(domain, hits, { content: true, snippetLength: SNIPPET_LENGTH })),
      busy(() => repository.change(domain, "m0", () => draft({ id: "m0", content: "new" }))),
      busy(() =>
        repository.searchText(domain, { terms: parseTextQuery("memory"), depth: 10, minScore: undefined }),
      ),
      busy(() => repository.leasePending(domain, version, 1, 0)),
    ];
    const moved = (async () => {
      for (let i = 0; i < 5; i++) {
        await repository.useEmbeddingVersion(domain, wide, 5);
        await repository.useEmbeddingVersion(domain, version, 3);
      }
    })().finally(() => {
      moving = false;
    });
    await Promise.all([moved, ...others]);
    expect(
      await repository.fetch(domain, hits, { content: true, snippetLength: SNIPPET_LENGTH }),
    ).toHaveLength(20);
  });

  test("in a domain without dimensions wait for them", async () => {
    domain = newDomainName();
    expect(await repository.createDomain(domain, undefined)).toMatchObject({
      domain: { dimensions: undefined, embeddingVersion: undefined },
    });
    const { id } = await insert();
    await repository.useEmbeddingVersion(domain, version, 3);
    const [memory] = await lease();
    if (memory === undefined) throw new Error("nothing was leased");
    await repository.completeEmbedding(domain, memory, embedding(version, 0));
    expect(await find(0)).toEqual([id]);
  });

  test("with an embedding of wrong dimensions are rejected completely", async () => {
    const { id } = await insert({ content: "x" });
    const [memory] = await lease();
    if (memory === undefined) throw new Error("nothing was leased");
    const chunks = [
      { start: 0, end: 1, vector: at(0) },
      { start: 1, end: 2, vector: Float32Array.of(1, 0) },
    ];
    await expect(repository.completeEmbedding(domain, memory, { version, chunks })).rejects.toThrow();
    expect((await read(id))?.embedding.state).toBe("pending");
  });

  test("embedding versions are numbered once for each space and chunker", async () => {
    const space = { model: "m", digest: "d", dimensions: 3, profile: "p/1" };
    const variants = [
      [space, 1],
      [{ ...space, model: "n" }, 1],
      [{ ...space, digest: "e" }, 1],
      [{ ...space, dimensions: 4 }, 1],
      [{ ...space, profile: "p/2" }, 1],
      [space, 2],
    ] as const;
    const register = () =>
      Promise.all(variants.map(([of, chunker]) => repository.registerEmbeddingVersion(of, chunker)));
    const [numbers, again] = await Promise.all([register(), register()]);
    expect(new Set(numbers).size).toBe(variants.length);
    expect(again).toEqual(numbers);
  });

  test("embedding versions differ for two engines that embed a fixed text differently", async () => {
    const space = { model: "probed", digest: "d", dimensions: 3, profile: "p/1" };
    const register = (probe?: Float32Array) =>
      repository.registerEmbeddingVersion({ ...space, ...(probe && { probe }) }, 1);
    const unknown = await register();
    expect(await register(at(0)), "the first engine to tell is the one that there was").toBe(unknown);
    const other = await register(at(17));
    expect(other).not.toBe(unknown);
    expect(await register(at(1)), "but for noise the same").toBe(unknown);
    expect(await register(at(18))).toBe(other);
    expect([unknown, other]).toContain(await register());
    const both = await Promise.all([register(at(60)), register(at(60))]);
    expect(new Set(both).size).toBe(1);
    expect([unknown, other]).not.toContain(both[0]);
  });
});
