import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_DOMAIN_SETTINGS } from "../../../src/memory/model/domain.ts";
import type { StoreResult } from "../../../src/memory/model/draft.ts";
import { ServiceError } from "../../../src/memory/model/errors.ts";
import type { StoreCommand } from "../../../src/memory/write/store-command.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { newDomainName } from "../../support/drafts.ts";
import { createScriptedEmbedder, scriptedSpace } from "../../support/in-process/scripted-embedder.ts";
import { createUseCaseStarter, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

describe.each(databaseEngines())("BatchStore on $name", ({ open }) => {
  let database: Database;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
  });
  afterAll(() => database.close());
  const { start, endAll } = createUseCaseStarter(() => database);
  afterEach(endAll);
  const many = (count: number, fields: Partial<StoreCommand> = {}) =>
    Array.from({ length: count }, (_, i) => ({ id: `m${i}`, content: `apple ${i} @${i % 90}`, ...fields }));
  const outcomesOf = (results: readonly (StoreResult | ServiceError)[]) =>
    results.map((result) => (result instanceof ServiceError ? result.reason : result.outcome));
  const memoryOf = (result: StoreResult | ServiceError | undefined) =>
    result === undefined || result instanceof ServiceError ? undefined : result.memory;
  const countRows = async (domain: string, table = "memories") =>
    (await database.query({ text: `select from "${domain}_${table}"` })).length;
  const makeUnique = async (useCases: UseCases) =>
    await useCases.repository.createDomain(useCases.domain, 3, {
      settings: { ...DEFAULT_DOMAIN_SETTINGS, deduplicateContent: true },
    });
  const expire = (useCases: UseCases, id: string) =>
    database.query({ text: `update "${useCases.domain}_memories" set expires_at = now() where id = $1` }, [
      id,
    ]);

  test("stores a thousand memories, and returns them in order", async () => {
    const useCases = start();
    const items = many(1_000).reverse();
    const results = await useCases.batchStore(items);
    expect(outcomesOf(results)).toEqual(items.map(() => "created"));
    expect(results.map((result) => memoryOf(result)?.id)).toEqual(items.map(({ id }) => id));
    for (const index of [0, 500, 999]) {
      const memory = memoryOf(results[index]);
      expect(memory).toMatchObject({ ...items[index], version: 1n, embedding: { state: "ready" } });
      expect(await useCases.read(memory?.id ?? "")).toEqual(memory);
    }
    expect(await countRows(useCases.domain)).toBe(1_000);
    expect(useCases.notified).toEqual([]);
  });

  test("can be repeated", async () => {
    const useCases = start();
    const items = many(300);
    const first = await useCases.batchStore(items);
    const again = await useCases.batchStore(items.toReversed());
    expect(new Set(outcomesOf(again))).toEqual(new Set(["unchanged"]));
    expect(again.map(memoryOf).reverse()).toEqual(first.map(memoryOf));
  });

  test("stores every field and every chunk", async () => {
    const useCases = start({ embedder: createScriptedEmbedder({ maxChunkLength: 40 }) });
    const content = ["one @0", "two @60", "three @120"].map((part) => part.padEnd(38, ".")).join("\n\n");
    const items = many(250, { content, source: "s", importance: 0, tags: ["b", "a"], metadata: { k: [1] } });
    const results = await useCases.batchStore(items.map((item, i) => (i === 7 ? { id: "m7" } : item)));
    expect(await useCases.read("m249")).toEqual(memoryOf(results[249]));
    expect(memoryOf(results[249])).toMatchObject({ ...items[249], chunkCount: 3 });
    expect(await countRows(useCases.domain, "chunks")).toBe(249 * 2);
    const { hits } = await useCases.find({ query: "x @120", mode: "semantic", limit: 5 });
    expect(hits).toHaveLength(5);
    expect(hits[0]).toMatchObject({ chunkIndex: 2 });
  });

  test("generates ids, in the order of the items, if none were sent", async () => {
    const useCases = start();
    const results = await useCases.batchStore(many(50).map(({ content }) => ({ content })));
    const ids = results.map((result) => memoryOf(result)?.id ?? "");
    expect(ids[0]).toMatch(/^mem_/);
    expect([...new Set(ids)].sort()).toEqual(ids);
  });

  test("accepts items of several domains, and creates missing domains", async () => {
    const useCases = start();
    const others = [newDomainName(), newDomainName()];
    const items = many(30).map((item, i) => ({ ...item, domain: [useCases.domain, ...others][i % 3] ?? "" }));
    const results = await useCases.batchStore(items);
    expect(results.map((result) => memoryOf(result)?.domain)).toEqual(items.map(({ domain }) => domain));
    for (const name of [useCases.domain, ...others]) expect(await countRows(name)).toBe(10);
  });

  test("applies the if_exists of each item", async () => {
    const useCases = start();
    await useCases.batchStore(
      ["same", "kept", "replaced", "retagged", "fails", "expired"].map((id) => ({ id })),
    );
    await expire(useCases, "expired");
    const results = await useCases.batchStore([
      { id: "same" },
      { id: "kept", content: "other @10", ifExists: "keep" },
      { id: "replaced", content: "other @20", ifExists: "replace" },
      { id: "retagged", tags: ["t"], ifExists: "replace" },
      { id: "fails", content: "other @30", tags: ["t"] },
      { id: "new" },
      { id: "expired", content: "other @40" },
    ]);
    expect(outcomesOf(results)).toEqual([
      "unchanged",
      "kept",
      "replaced",
      "replaced",
      "MEMORY_ALREADY_EXISTS",
      "created",
      "created",
    ]);
    expect(results[4]).toMatchObject({
      metadata: { id: "fails", domain: useCases.domain, fields: "content,tags" },
    });
    expect(memoryOf(results[1])).toMatchObject({ content: "a memory @0", version: 1n });
    expect(memoryOf(results[2])).toMatchObject({ content: "other @20", version: 2n });
    expect(memoryOf(results[3])).toMatchObject({ version: 2n, embedding: { state: "ready" } });
    expect(memoryOf(results[6])).toMatchObject({ content: "other @40", version: 1n });
    for (const result of results) {
      const memory = memoryOf(result);
      if (memory !== undefined) expect(await useCases.read(memory.id)).toEqual(memory);
    }
    const found = await useCases.find({ query: "x @20", mode: "semantic", minSimilarity: 0.999 });
    expect(found.hits.map(({ id }) => id)).toEqual(["replaced"]);
  });

  test("skips invalid items, and stores the others", async () => {
    const useCases = start();
    const wrong = new ServiceError("INVALID_ARGUMENT", "content: must not be empty");
    const results = await useCases.batchStore([{ id: "a" }, wrong, { id: "b" }]);
    expect(outcomesOf(results)).toEqual(["created", "INVALID_ARGUMENT", "created"]);
    expect(results[1]).toBe(wrong);
    expect(outcomesOf(await useCases.batchStore([wrong, wrong]))).toEqual([
      "INVALID_ARGUMENT",
      "INVALID_ARGUMENT",
    ]);
  });

  test("stores all items or none if atomic, and reports the first item that fails", async () => {
    const useCases = start();
    await useCases.batchStore([{ id: "b" }, { id: "a" }]);
    const before = await countRows(useCases.domain);
    await expect(
      useCases.batchStore([{ id: "new" }, { id: "b", content: "other" }, { id: "a", content: "other" }], {
        atomic: true,
      }),
    ).rejects.toMatchObject({
      reason: "MEMORY_ALREADY_EXISTS",
      message: `items[1]: memory "b" exists in domain "${useCases.domain}" and differs in content`,
      metadata: { id: "b", fields: "content" },
    });
    expect(await countRows(useCases.domain)).toBe(before);
    const results = await useCases.batchStore(
      [{ id: "new" }, { id: "b", content: "other", ifExists: "replace" }],
      { atomic: true },
    );
    expect(outcomesOf(results)).toEqual(["created", "replaced"]);
  });

  test("fails only the items of a domain that must not be created", async () => {
    const useCases = start({ createDomains: false });
    await useCases.repository.createDomain(useCases.domain, 3);
    const missing = newDomainName();
    const items = [{ id: "a" }, { id: "b", domain: missing }, { id: "c" }];
    const results = await useCases.batchStore(items);
    expect(outcomesOf(results)).toEqual(["created", "DOMAIN_NOT_FOUND", "created"]);
    expect(useCases.embedder.calls.flatMap(({ texts }) => texts)).toHaveLength(2);
    await expect(useCases.batchStore(items, { atomic: true })).rejects.toMatchObject({
      reason: "DOMAIN_NOT_FOUND",
      message: expect.stringMatching(/^items\[1\]: /),
      metadata: { domain: missing },
    });
  });

  test("recreates a domain that another server has deleted", async () => {
    const useCases = start();
    const other = newDomainName();
    await useCases.batchStore([{ id: "a" }, { id: "b", domain: other }]);
    await database.query({ text: "select drop_domain_memories_table($1)" }, [other]);
    const results = await useCases.batchStore([{ id: "a" }, { id: "b", domain: other }, { id: "c" }]);
    expect(outcomesOf(results)).toEqual(["unchanged", "created", "created"]);
    expect(await countRows(other)).toBe(1);
  });

  describe("the embeddings of a batch", () => {
    test("are requested together", async () => {
      const useCases = start();
      const release = useCases.embedder.hold();
      const storing = useCases.batchStore(many(20));
      await expect.poll(() => useCases.embedder.calls.length, { timeout: 30_000 }).toBe(20);
      release();
      await storing;
    });

    test("are completed in the background in background mode or after a failure", async () => {
      const useCases = start();
      useCases.embedder.failing = (text) => (text.includes("poison") ? "rejected" : undefined);
      const results = await useCases.batchStore([
        { id: "now" },
        { id: "later", embeddingMode: "background" },
        { id: "poison", content: "poison @1" },
      ]);
      expect(results.map((result) => memoryOf(result)?.embedding.state)).toEqual([
        "ready",
        "pending",
        "pending",
      ]);
      expect(new Set(useCases.notified)).toEqual(new Set([useCases.domain]));
      useCases.embedder.failing = undefined;
      useCases.startWorker();
      await useCases.whenState("later", "ready");
      await useCases.whenState("poison", "ready");
    });

    test("that take longer than the budget are written when they are complete", async () => {
      const useCases = start();
      const release = useCases.embedder.hold();
      const results = await useCases.batchStore(many(40), {}, { remainingMs: 0 });
      expect(new Set(results.map((result) => memoryOf(result)?.embedding.state))).toEqual(
        new Set(["pending"]),
      );
      expect(useCases.notified).toEqual([]);
      release();
      for (let i = 0; i < 40; i++) await useCases.whenState(`m${i}`, "ready");
    });

    test("that take long to write are written after the response", async () => {
      // The budget for embedding is an hour, but there is no time to write embeddings.
      const useCases = start({
        wrap: (repository) => ({
          ...repository,
          storeMany: (entries, options, signal) =>
            repository.storeMany(entries, { ...options, embeddingsMs: 0 }, signal),
        }),
      });
      const results = await useCases.batchStore(many(120));
      const states = new Set(results.map((result) => memoryOf(result)?.embedding.state));
      expect(states).toEqual(new Set(["pending"]));
      for (let i = 0; i < 120; i++) await useCases.whenState(`m${i}`, "ready");
      expect(useCases.embedder.calls).toHaveLength(120);
      expect(useCases.notified).toEqual([]);
    });

    test("of another version cause one read of each domain", async () => {
      let looks = 0;
      const useCases = start({
        wrap: (repository) => ({
          ...repository,
          readDomain(...args) {
            looks++;
            return repository.readDomain(...args);
          },
        }),
      });
      await useCases.store({ id: "first" });
      useCases.embedder.arrive({ ...scriptedSpace, digest: "2" });
      const results = await useCases.batchStore(many(50));
      expect(new Set(results.map((result) => memoryOf(result)?.embedding.state))).toEqual(
        new Set(["pending"]),
      );
      expect(looks).toBe(1);
    });

    test("are computed later if the embedder is unavailable", async () => {
      const useCases = start();
      useCases.embedder.leave();
      const results = await useCases.batchStore(many(5));
      expect(outcomesOf(results)).toEqual(many(5).map(() => "created"));
      expect(await useCases.idsOf({ query: "apple", mode: "text" })).toHaveLength(5);
    });
  });

  describe("in a domain that keeps each content once", () => {
    test("finds duplicates of existing memories and of earlier items", async () => {
      const useCases = start();
      await makeUnique(useCases);
      await useCases.store({ id: "there", content: "known @1" });
      await useCases.store({ id: "expired", content: "gone @2" });
      await expire(useCases, "expired");
      const results = await useCases.batchStore([
        { id: "z", content: "twice @3" },
        { id: "a", content: "twice @3" },
        { id: "b", content: "known @1" },
        { id: "c", content: "gone @2" },
        { content: "twice @3" },
        { id: "there", content: "known @1" },
      ]);
      expect(outcomesOf(results)).toEqual([
        "created",
        "duplicate",
        "duplicate",
        "created",
        "duplicate",
        "unchanged",
      ]);
      expect(results.map((result) => memoryOf(result)?.id)).toEqual(["z", "z", "there", "c", "z", "there"]);
      expect(await countRows(useCases.domain)).toBe(3);
    });

    test("stores the other items if a replacement would be a duplicate", async () => {
      const useCases = start();
      await makeUnique(useCases);
      await useCases.batchStore([
        { id: "a", content: "one @1" },
        { id: "b", content: "two @2" },
      ]);
      const results = await useCases.batchStore([
        { id: "new", content: "three @3" },
        { id: "b", content: "one @1", ifExists: "replace" },
        { id: "a", content: "four @4", ifExists: "replace" },
      ]);
      expect(outcomesOf(results)).toEqual(["created", "duplicate", "replaced"]);
      expect(memoryOf(results[1])).toMatchObject({ id: "a" });
      expect(await useCases.read("b")).toMatchObject({ content: "two @2", version: 1n });
      expect(await useCases.read("new")).toMatchObject({ content: "three @3" });
    });

    test("stores each content once for ten concurrent callers, in any order", async () => {
      const useCases = start();
      await makeUnique(useCases);
      const batches = await Promise.all(
        Array.from({ length: 10 }, (_, caller) => {
          const items = many(40).map(({ content }, i) => ({ id: `c${caller}-${i}`, content }));
          return useCases.batchStore(caller % 2 === 0 ? items : items.toReversed());
        }),
      );
      const outcomes = batches.flatMap(outcomesOf);
      expect(outcomes.filter((outcome) => outcome === "created")).toHaveLength(40);
      expect(outcomes.filter((outcome) => outcome === "duplicate")).toHaveLength(360);
      expect(await countRows(useCases.domain)).toBe(40);
    });
  });

  test("stores each id once for ten concurrent callers, in any order", async () => {
    const useCases = start();
    const items = many(300, { embeddingMode: "background" });
    const batches = await Promise.all(
      Array.from({ length: 10 }, (_, caller) =>
        useCases.batchStore(caller % 2 === 0 ? items : items.toReversed()),
      ),
    );
    const outcomes = batches.flatMap(outcomesOf);
    expect(outcomes.filter((outcome) => outcome === "created")).toHaveLength(300);
    expect(outcomes.filter((outcome) => outcome === "unchanged")).toHaveLength(2_700);
  });

  test("does not deadlock when ten concurrent callers replace the same memories", async () => {
    const useCases = start();
    const items = many(60, { embeddingMode: "background", ifExists: "replace" });
    await useCases.batchStore(items);
    await Promise.all(
      Array.from({ length: 10 }, (_, caller) => {
        const own = items.map((item) => ({ ...item, source: `s${caller}` }));
        return useCases.batchStore(caller % 2 === 0 ? own : own.toReversed(), { atomic: true });
      }),
    );
    const { memories } = await useCases.list({ pageSize: 100 });
    expect(new Set(memories.map(({ memory }) => memory.version))).toEqual(new Set([11n]));
    expect(new Set(memories.map(({ memory }) => memory.source)).size).toBe(1);
  });

  test("stores nothing if the caller has left", async () => {
    const useCases = start();
    await useCases.store({ id: "first" });
    const signal = AbortSignal.abort(new Error("left"));
    await expect(useCases.batchStore(many(3), {}, { signal })).rejects.toThrow("left");
    expect(await countRows(useCases.domain)).toBe(1);
  });
});
