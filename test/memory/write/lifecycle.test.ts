import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_DOMAIN_SETTINGS } from "../../../src/memory/model/domain.ts";
import type { Filter } from "../../../src/memory/model/filter.ts";
import type { MemoryFields } from "../../../src/memory/model/memory.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { microsecondsFromNow } from "../../support/drafts.ts";
import { createUseCaseStarter, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

const call = { signal: new AbortController().signal, remainingMs: undefined };

describe.each(databaseEngines())("the lifecycle of a memory on $name", ({ open }) => {
  let database: Database;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
  });
  afterAll(() => database.close());
  const { start, endAll } = createUseCaseStarter(() => database);
  afterEach(endAll);
  const get = ({ memories, domain }: UseCases, id: string) => memories.get({ domain, id }, call);
  const notFound = ({ domain }: UseCases, id: string) => ({
    reason: "MEMORY_NOT_FOUND",
    metadata: { id, domain },
  });
  /** Lets it expire, as if its time had come. */
  const expire = (useCases: UseCases, id: string) =>
    database.query({ text: `update "${useCases.domain}_memories" set expires_at = now() where id = $1` }, [
      id,
    ]);
  const similarTo = async (useCases: UseCases, angle: number) => {
    const found = await useCases.find({ query: `x @${angle}`, mode: "semantic", minSimilarity: 0.99 });
    return found.hits.map(({ id }) => id);
  };
  const full = {
    content: "apple @10",
    source: "s",
    importance: 0.5,
    tags: ["a", "b"],
    metadata: { kept: 1, nested: { x: 1, y: 2 } },
    expiry: { kind: "after", ttl: 3_600_000_000n },
  } as const satisfies MemoryFields;

  describe("Get", () => {
    test("reads what was stored", async () => {
      const useCases = start();
      const { memory } = await useCases.store({ id: "m", ...full });
      expect(await get(useCases, "m")).toEqual(memory);
    });

    test("does not find a memory that never existed, was deleted, has expired or is in another domain", async () => {
      const useCases = start();
      const other = start();
      await other.store({ id: "m" });
      await useCases.store({ id: "gone" });
      await useCases.store({ id: "expired" });
      await useCases.delete("gone");
      await expire(useCases, "expired");
      for (const id of ["m", "gone", "expired"]) {
        await expect(get(useCases, id)).rejects.toMatchObject(notFound(useCases, id));
      }
    });
  });

  describe("Delete", () => {
    test("deletes the memory permanently, from every search as well", async () => {
      const useCases = start();
      await useCases.store({ id: "m", content: "apple @10" });
      expect(await useCases.delete("m")).toBe(true);
      await expect(get(useCases, "m")).rejects.toMatchObject(notFound(useCases, "m"));
      expect(await useCases.idsOf({ query: "apple @10" })).toEqual([]);
      expect((await useCases.store({ id: "m", content: "pear" })).outcome).toBe("created");
    });

    test("fails for a memory that does not exist, unless that is allowed", async () => {
      const useCases = start();
      await useCases.store({ id: "expired" });
      await expire(useCases, "expired");
      for (const id of ["never", "expired"]) {
        await expect(useCases.delete(id)).rejects.toMatchObject(notFound(useCases, id));
        expect(await useCases.delete(id, { allowMissing: true })).toBe(false);
        expect(await useCases.delete(id, { allowMissing: true, expectedVersion: 3n })).toBe(false);
      }
    });

    test("changes nothing for another version than expected, and reports the current version", async () => {
      const useCases = start();
      await useCases.store({ id: "m" });
      await useCases.update("m", { source: "new" });
      await expect(useCases.delete("m", { expectedVersion: 1n, allowMissing: true })).rejects.toMatchObject({
        reason: "VERSION_MISMATCH",
        metadata: { id: "m", domain: useCases.domain, expected_version: "1", current_version: "2" },
      });
      expect(await get(useCases, "m")).toMatchObject({ version: 2n });
      expect(await useCases.delete("m", { expectedVersion: 2n })).toBe(true);
    });

    test("deletes once when fifty calls delete concurrently", async () => {
      const useCases = start();
      await useCases.store({ id: "m" });
      const deletions = await Promise.all(
        Array.from({ length: 50 }, () => useCases.delete("m", { allowMissing: true, expectedVersion: 1n })),
      );
      expect(deletions.filter((deleted) => deleted)).toHaveLength(1);
    });
  });

  describe("Update", () => {
    const changes: readonly (readonly [string, Partial<MemoryFields>])[] = [
      ["the source", { source: "new" }],
      ["the source to none", { source: "" }],
      ["importance", { importance: 0 }],
      ["importance to none", { importance: undefined }],
      ["tags", { tags: ["c"] }],
      ["tags to none", { tags: [] }],
      ["metadata", { metadata: { new: [1] } }],
      ["metadata to none", { metadata: {} }],
      ["the content", { content: "pear @80" }],
      ["everything", { content: "pear @80", source: "n", importance: 1, tags: ["z"], metadata: { n: null } }],
      ["nothing at all", {}],
    ];

    test.each(changes)("changes %s and nothing else", async (_name, change) => {
      const useCases = start();
      const { memory: before } = await useCases.store({ id: "m", ...full });
      const after = await useCases.update("m", change);
      expect(after).toEqual({ ...before, ...change, updateTime: after.updateTime, version: 2n });
      expect(after.updateTime).toBeGreaterThan(before.updateTime);
      expect(await get(useCases, "m")).toEqual(after);
    });

    test("changes the expiry by a ttl or a time, and removes it", async () => {
      const useCases = start();
      await useCases.store({ id: "m", ...full });
      const renewed = await useCases.update("m", { expiry: full.expiry });
      expect(renewed).toMatchObject({ expiry: full.expiry, version: 2n });
      expect(renewed.expireTime).toBe(renewed.updateTime + full.expiry.ttl);
      const time = microsecondsFromNow(60) + 7n;
      expect(await useCases.update("m", { expiry: { kind: "at", time } })).toMatchObject({
        expiry: { kind: "at", time },
        expireTime: time,
      });
      const endless = await useCases.update("m", { expiry: { kind: "never" } });
      expect(endless).toMatchObject({ expiry: { kind: "never" }, expireTime: undefined, version: 4n });
    });

    test("merges metadata key by key at the top level, and removes keys by null", async () => {
      const useCases = start();
      await useCases.store({ id: "m", metadata: { a: 1, b: { x: 1, y: 2 }, c: null, d: "d" } });
      const metadata = JSON.parse('{"b":{"x":null},"d":null,"e":[null],"never":null,"__proto__":{"p":1}}');
      const merged = await useCases.update("m", { metadata }, { metadataMode: "merge" });
      expect(JSON.stringify(Object.entries(merged.metadata).sort())).toBe(
        '[["__proto__",{"p":1}],["a",1],["b",{"x":null}],["c",null],["e",[null]]]',
      );
      expect(await useCases.update("m", { metadata: {} }, { metadataMode: "merge" })).toMatchObject({
        metadata: merged.metadata,
        version: 3n,
      });
    });

    test("rejects metadata that would exceed the limit when merged, and changes nothing", async () => {
      const useCases = start();
      const { memory } = await useCases.store({ id: "m", metadata: { a: "x".repeat(40_000) } });
      await expect(
        useCases.update("m", { metadata: { b: "x".repeat(40_000) } }, { metadataMode: "merge" }),
      ).rejects.toMatchObject({
        reason: "INVALID_ARGUMENT",
        violations: [{ field: "memory.metadata", description: expect.stringMatching(/at most 65536 bytes/) }],
      });
      expect(await get(useCases, "m")).toEqual(memory);
    });

    test("returns NotFound for a memory that does not exist, whatever the change", async () => {
      const useCases = start();
      await useCases.store({ id: "expired" });
      await expire(useCases, "expired");
      for (const id of ["never", "expired"]) {
        for (const change of [{ source: "new" }, { content: "new" }]) {
          await expect(useCases.update(id, change)).rejects.toMatchObject(notFound(useCases, id));
        }
      }
      expect(useCases.embedder.calls).toHaveLength(1);
    });

    test.each([
      ["metadata", { metadata: {} }],
      ["content", { content: "pear @80" }],
    ])(
      "reports the current version for an update of %s at another version than expected",
      async (_name, change) => {
        const useCases = start();
        await useCases.store({ id: "m" });
        const second = await useCases.update("m", { source: "new" }, { expectedVersion: 1n });
        await expect(useCases.update("m", change, { expectedVersion: 1n })).rejects.toMatchObject({
          reason: "VERSION_MISMATCH",
          metadata: { id: "m", domain: useCases.domain, expected_version: "1", current_version: "2" },
        });
        expect(await get(useCases, "m")).toEqual(second);
        expect(useCases.embedder.calls).toHaveLength(1);
      },
    );

    test("reports which memory has the content if the domain deduplicates", async () => {
      const useCases = start();
      await useCases.repository.createDomain(useCases.domain, 3, {
        settings: { ...DEFAULT_DOMAIN_SETTINGS, deduplicateContent: true },
      });
      await useCases.store({ id: "a", content: "apple @10" });
      const { memory } = await useCases.store({ id: "b", content: "pear @80" });
      await expect(useCases.update("b", { content: "apple @10" })).rejects.toMatchObject({
        reason: "MEMORY_ALREADY_EXISTS",
        metadata: { id: "a", domain: useCases.domain, fields: "content" },
      });
      expect(await get(useCases, "b")).toEqual(memory);
      await expire(useCases, "a");
      expect(await useCases.update("b", { content: "apple @10" })).toMatchObject({ version: 2n });
    });

    test("succeeds once when fifty calls expect the same version", async () => {
      const useCases = start();
      await useCases.store({ id: "m" });
      const results = await Promise.allSettled(
        Array.from({ length: 50 }, (_, i) =>
          useCases.update("m", { source: `s${i}` }, { expectedVersion: 1n }),
        ),
      );
      const done = results.filter((result) => result.status === "fulfilled");
      expect(done).toHaveLength(1);
      for (const result of results) {
        if (result.status === "rejected") expect(result.reason).toMatchObject({ reason: "VERSION_MISMATCH" });
      }
      expect(await get(useCases, "m")).toEqual(done[0]?.value);
    });

    test("loses none of fifty concurrent updates without an expected version", async () => {
      const useCases = start();
      await useCases.store({ id: "m" });
      await Promise.all(
        Array.from({ length: 50 }, (_, i) =>
          useCases.update("m", { metadata: { [`k${i}`]: i } }, { metadataMode: "merge" }),
        ),
      );
      const { metadata, version } = await get(useCases, "m");
      expect(Object.keys(metadata)).toHaveLength(50);
      expect(version).toBe(51n);
    });
  });

  describe("the embedding of an updated memory", () => {
    test("is recomputed for new content", async () => {
      const useCases = start();
      await useCases.store({ id: "m", content: "apple @10" });
      expect(await useCases.update("m", { content: "pear @80" })).toMatchObject({
        embedding: { state: "ready" },
      });
      expect(await similarTo(useCases, 10)).toEqual([]);
      expect(await similarTo(useCases, 80)).toEqual(["m"]);
      expect(await useCases.idsOf({ query: "apple", mode: "text" })).toEqual([]);
      expect(await useCases.idsOf({ query: "pear", mode: "text" })).toEqual(["m"]);
    });

    test("is kept without calling the embedder if the content stays the same", async () => {
      const useCases = start();
      await useCases.store({ id: "m", content: "apple @10" });
      await useCases.update("m", { content: "apple @10", source: "new" });
      await useCases.update("m", { tags: ["x"] });
      expect(useCases.embedder.calls.filter(({ role }) => role === "document")).toHaveLength(1);
      expect(await similarTo(useCases, 10)).toEqual(["m"]);
    });

    test("stays pending if the content stays the same", async () => {
      const useCases = start();
      await useCases.store({ id: "m", content: "apple @10", embeddingMode: "background" });
      expect(await useCases.update("m", { source: "new" })).toMatchObject({
        embedding: { state: "pending" },
      });
      useCases.startWorker();
      await useCases.whenState("m", "ready");
      expect(await similarTo(useCases, 10)).toEqual(["m"]);
    });

    test("is completed later if the embedder is unavailable, and the old embedding is removed at once", async () => {
      const useCases = start();
      await useCases.store({ id: "m", content: "apple @10" });
      useCases.embedder.leave();
      const updated = await useCases.update("m", { content: "pear @80" });
      expect(updated.embedding.state).toBe("pending");
      expect(useCases.notified).toEqual([useCases.domain]);
      useCases.embedder.arrive();
      expect(await similarTo(useCases, 10)).toEqual([]);
      useCases.startWorker();
      expect(await useCases.whenState("m", "ready")).toMatchObject({
        version: 2n,
        updateTime: updated.updateTime,
      });
      expect(await similarTo(useCases, 80)).toEqual(["m"]);
    });

    test("is not waited for in background mode", async () => {
      const useCases = start();
      await useCases.store({ id: "m", content: "apple @10" });
      useCases.embedder.hold();
      const updated = await useCases.update("m", { content: "pear @80" }, { embeddingMode: "background" });
      expect(updated.embedding.state).toBe("pending");
    });

    test("is attempted again for new content after it failed", async () => {
      const useCases = start();
      await useCases.store({ id: "m", content: "poison @10", embeddingMode: "background" });
      await database.query({ text: `update "${useCases.domain}_memories" set embedding_state = 'failed'` });
      expect((await useCases.update("m", { source: "s" })).embedding.state).toBe("failed");
      expect((await useCases.update("m", { content: "pear @80" })).embedding.state).toBe("ready");
    });
  });

  describe("RetryFailed", () => {
    const fail = async (useCases: UseCases, ...ids: string[]) => {
      for (const id of ids) await useCases.store({ id, source: id, embeddingMode: "background" });
      for (const memory of await useCases.repository.leasePending(useCases.domain, 1, 10_000, 0)) {
        if (ids.includes(memory.id)) {
          await useCases.repository.failEmbedding(useCases.domain, memory, "the model was broken");
        }
      }
    };
    const retry = ({ memories, domain }: UseCases, filter?: Filter) =>
      memories.retryFailed({ domain, filter }, call);

    test("makes failed memories pending, and the worker embeds them", async () => {
      const useCases = start();
      await fail(useCases, "a", "b");
      await useCases.store({ id: "ready" });
      const before = await get(useCases, "a");
      expect(before.embedding).toMatchObject({ state: "failed", failureReason: "the model was broken" });
      useCases.notified.length = 0;
      expect(await retry(useCases)).toBe(2n);
      expect(useCases.notified).toEqual([useCases.domain]);
      expect(await get(useCases, "a")).toEqual({
        ...before,
        embedding: { state: "pending", failureReason: "", version: undefined },
      });
      expect((await get(useCases, "ready")).embedding.state).toBe("ready");
      useCases.startWorker();
      await useCases.whenState("a", "ready");
      await useCases.whenState("b", "ready");
      expect(await retry(useCases)).toBe(0n);
    });

    test("does not change memories that do not match, are pending or have expired", async () => {
      const useCases = start();
      await fail(useCases, "a", "b", "expired");
      await useCases.store({ id: "waiting", embeddingMode: "background" });
      await expire(useCases, "expired");
      expect(await retry(useCases, { kind: "sources", sources: ["b", "expired"] })).toBe(1n);
      expect((await get(useCases, "a")).embedding.state).toBe("failed");
      expect((await get(useCases, "b")).embedding.state).toBe("pending");
    });

    test("processes any number of memories in steps", async () => {
      const useCases = start();
      await useCases.repository.createDomain(useCases.domain, 3);
      await database.query({
        text: `insert into "${useCases.domain}_memories" (id, content, metadata, embedding_state)
          select 'm' || n, 'c', '{}', 'failed' from generate_series(1, 2500) as n`,
      });
      expect(await retry(useCases)).toBe(2_500n);
    });

    test("returns NotFound for a domain that does not exist", async () => {
      const useCases = start();
      await expect(retry(useCases)).rejects.toMatchObject({ reason: "DOMAIN_NOT_FOUND" });
    });
  });

  // The old content is embedded by a late writer or by the worker, and the memory changes before it finishes.
  describe("a late embedding", () => {
    /** Stores "apple @10" and leaves its embedding on the way; the function returned lets it arrive. */
    const storeLate = async (useCases: UseCases, by: "writer" | "worker") => {
      if (by === "writer") {
        const release = useCases.embedder.hold();
        await useCases.store({ id: "m", content: "apple @10" }, { remainingMs: 0 });
        return release;
      }
      await useCases.store({ id: "m", content: "apple @10", embeddingMode: "background" });
      const release = useCases.embedder.hold();
      useCases.startWorker();
      await expect
        .poll(() => useCases.embedder.calls.some(({ texts }) => texts.includes("apple @10")), {
          timeout: 30_000,
        })
        .toBe(true);
      return release;
    };
    /** Resolves when what the late embedding does to the database is done. */
    const settled = (done: readonly Promise<unknown>[]) => Promise.allSettled(done);
    const watched = () => {
      const done: Promise<unknown>[] = [];
      const arrived = Promise.withResolvers<void>();
      const useCases = start({
        wrap: (repository) => ({
          ...repository,
          completeEmbedding(...args) {
            const completing = repository.completeEmbedding(...args);
            done.push(completing);
            arrived.resolve();
            return completing;
          },
        }),
      });
      return { useCases, done, arrived: arrived.promise };
    };

    describe.each(["writer", "worker"] as const)("from the %s", (by) => {
      test("does not restore a deleted memory", async () => {
        const { useCases, done, arrived } = watched();
        const release = await storeLate(useCases, by);
        await useCases.delete("m");
        release();
        await arrived;
        await settled(done);
        await expect(get(useCases, "m")).rejects.toMatchObject(notFound(useCases, "m"));
        expect(await similarTo(useCases, 10)).toEqual([]);
      });

      test("is not written to changed content", async () => {
        const { useCases, done, arrived } = watched();
        const release = await storeLate(useCases, by);
        const updated = await useCases.update("m", { content: "pear @80" }, { embeddingMode: "background" });
        release();
        await arrived;
        await settled(done.slice(0, 1));
        expect(await similarTo(useCases, 10)).toEqual([]);
        const now = await get(useCases, "m");
        expect(now).toMatchObject({ content: "pear @80", version: updated.version });
        if (by === "writer") expect(now.embedding.state).toBe("pending");
      });

      test("is not written to a memory of the same id that was stored in the meantime", async () => {
        const { useCases, done, arrived } = watched();
        const release = await storeLate(useCases, by);
        await useCases.delete("m");
        await useCases.store({ id: "m", content: "pear @80", embeddingMode: "background" });
        release();
        await arrived;
        await settled(done.slice(0, 1));
        expect(await similarTo(useCases, 10)).toEqual([]);
        expect(await get(useCases, "m")).toMatchObject({ content: "pear @80", version: 1n });
      });

      test("is written to a memory of the same id and content that was stored in the meantime", async () => {
        const { useCases, done, arrived } = watched();
        const release = await storeLate(useCases, by);
        await useCases.delete("m");
        const { memory } = await useCases.store({
          id: "m",
          content: "apple @10",
          source: "second",
          embeddingMode: "background",
        });
        release();
        await arrived;
        await settled(done);
        expect(await similarTo(useCases, 10)).toEqual(["m"]);
        expect(await get(useCases, "m")).toMatchObject({
          source: "second",
          version: 1n,
          createTime: memory.createTime,
          embedding: { state: "ready" },
        });
      });

      test("does not replace the embedding of an update that was embedded in the meantime", async () => {
        const { useCases, done, arrived } = watched();
        const release = await storeLate(useCases, by);
        const version = (await useCases.contents.current())?.version ?? 0;
        const vector = Float32Array.of(0, 0, 1);
        await useCases.repository.change(useCases.domain, "m", (current) =>
          current === undefined
            ? undefined
            : {
                ...current,
                content: "pear",
                embedding: { version, chunks: [{ start: 0, end: 4, vector }] },
                leaseMs: 0,
              },
        );
        release();
        await arrived;
        await settled(done);
        expect(await similarTo(useCases, 10)).toEqual([]);
        expect(await get(useCases, "m")).toMatchObject({ content: "pear", embedding: { state: "ready" } });
      });
    });
  });
});
