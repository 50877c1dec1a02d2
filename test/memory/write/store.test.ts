import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { StoreCommand } from "../../../src/memory/write/store-command.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { microsecondsFromNow } from "../../support/drafts.ts";
import { createScriptedEmbedder, scriptedSpace } from "../../support/in-process/scripted-embedder.ts";
import { createUseCases, type UseCaseOptions, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

describe.each(databaseEngines())("Store on $name", ({ open }) => {
  let database: Database;
  let opened: UseCases[] = [];

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
  });
  afterAll(() => database.close());
  afterEach(async () => {
    for (const useCases of opened) await useCases.close();
    opened = [];
  });
  const start = (options?: UseCaseOptions) => {
    const useCases = createUseCases(database, options);
    opened.push(useCases);
    return useCases;
  };
  const countRows = async ({ domain }: UseCases) =>
    (await database.query({ text: `select from "${domain}_memories"` })).length;

  /** How often the embedder was asked for a text. A worker asks for those of other tests too. */
  const callsFor = ({ embedder }: UseCases, text: string) =>
    embedder.calls.filter(({ texts }) => texts.includes(text)).length;

  describe("for a new memory", () => {
    test("returns all fields of the request, embedded and committed", async () => {
      const useCases = start();
      const sent = {
        content: "apple @10",
        source: "s",
        importance: 0.5,
        tags: ["b", "a"],
        metadata: { k: [1, { n: null }] },
        expiry: { kind: "at", time: microsecondsFromNow(60) },
      } as const;
      const { memory, outcome } = await useCases.store({ id: "m", ...sent });
      expect(outcome).toBe("created");
      expect(memory).toMatchObject({ ...sent, id: "m", domain: useCases.domain, version: 1n, chunkCount: 1 });
      expect(memory.embedding).toMatchObject({ state: "ready", failureReason: "" });
      expect(memory.updateTime).toBe(memory.createTime);
      expect(await useCases.read("m")).toEqual(memory);
      expect(useCases.notified).toEqual([]);
    });

    test("generates an id that sorts by time if none was sent", async () => {
      const useCases = start();
      const ids: string[] = [];
      for (let i = 0; i < 5; i++) ids.push((await useCases.store()).memory.id);
      for (const id of ids) {
        expect(id).toMatch(/^mem_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      }
      expect([...new Set(ids)].sort()).toEqual(ids);
    });

    test("creates its domain, which uses the embedder's version", async () => {
      const useCases = start();
      await useCases.store({ id: "m" });
      expect(await useCases.repository.findDomain(useCases.domain)).toMatchObject({
        dimensions: 3,
        embeddingVersion: await useCases.repository.registerEmbeddingVersion(scriptedSpace, 1),
      });
    });

    test("does not create a domain if that is disabled", async () => {
      const useCases = start({ createDomains: false });
      await expect(useCases.store()).rejects.toMatchObject({
        reason: "DOMAIN_NOT_FOUND",
        metadata: { domain: useCases.domain },
      });
      expect(await useCases.repository.findDomain(useCases.domain)).toBeUndefined();
      expect(useCases.embedder.calls).toEqual([]);
    });

    test("recreates a domain that another server has deleted", async () => {
      const useCases = start();
      await useCases.store({ id: "m" });
      const { domain } = useCases;
      await database.execute(`
        drop table "${domain}_chunks";
        drop table "${domain}_memories";
        delete from memory_domains where name = '${domain}';
      `);
      const { memory, outcome } = await useCases.store({ id: "m" });
      expect(outcome).toBe("created");
      expect(memory.embedding.state).toBe("ready");
      expect(await useCases.idsOf()).toEqual(["m"]);
    });

    test("stores fifty memories when fifty calls create the domain concurrently", async () => {
      const useCases = start();
      const stored = await Promise.all(Array.from({ length: 50 }, (_, i) => useCases.store({ id: `m${i}` })));
      expect(stored.every(({ outcome }) => outcome === "created")).toBe(true);
      expect(await countRows(useCases)).toBe(50);
    });

    test("splits long content into chunks, and finds it by each of them", async () => {
      const useCases = start({ embedder: createScriptedEmbedder({ maxChunkLength: 40 }) });
      const content = ["one @0", "two @60", "three @120"].map((part) => part.padEnd(38, ".")).join("\n\n");
      const { memory } = await useCases.store({ id: "m", content });
      expect(memory.chunkCount).toBe(3);
      for (const [chunkIndex, angle] of [0, 60, 120].entries()) {
        const { hits } = await useCases.find({ query: `x @${angle}`, mode: "semantic" });
        expect(hits).toMatchObject([{ id: "m", chunkIndex }]);
        expect(hits[0]?.similarity).toBeCloseTo(1, 5);
      }
    });
  });

  describe("for an id that is taken", () => {
    const full: Partial<StoreCommand> = {
      id: "m",
      content: "apple @10",
      source: "s",
      importance: 0.25,
      tags: ["a", "b"],
      metadata: { a: 1, b: { c: [1, 2], d: "x" } },
      expiry: { kind: "at", time: microsecondsFromNow(3_600) },
    };

    test.each(["fail", "replace", "keep"] as const)(
      "is unchanged if all fields are equal (%s)",
      async (ifExists) => {
        const useCases = start();
        const first = await useCases.store({ ...full, ifExists });
        const again = await useCases.store({
          ...full,
          ifExists,
          // The order of keys does not matter.
          metadata: { b: { d: "x", c: [1, 2] }, a: 1 },
        });
        expect(again).toEqual({ memory: first.memory, outcome: "unchanged" });
      },
    );

    const differences: readonly [string, Partial<StoreCommand>][] = [
      ["content", { content: "pear @10" }],
      ["content", { content: "apple @10 " }],
      ["source", { source: "" }],
      ["importance", { importance: undefined }],
      ["importance", { importance: 0 }],
      ["tags", { tags: ["b", "a"] }],
      ["tags", { tags: ["a"] }],
      ["metadata", { metadata: { a: 1, b: { c: [2, 1], d: "x" } } }],
      ["metadata", { metadata: { a: "1", b: { c: [1, 2], d: "x" } } }],
      ["metadata", { metadata: { a: 1 } }],
      ["metadata", { metadata: {} }],
      ["expiry", { expiry: { kind: "never" } }],
      ["expiry", { expiry: { kind: "after", ttl: 3_600_000_000n } }],
      ["expiry", { expiry: { kind: "at", time: microsecondsFromNow(7_200) } }],
      ["content,tags", { content: "pear @10", tags: [] }],
    ];

    test.each(differences)("fails and reports %s (%o)", async (fields, change) => {
      const useCases = start();
      const first = await useCases.store(full);
      const refused = useCases.store({ ...full, ...change });
      await expect(refused).rejects.toMatchObject({
        reason: "MEMORY_ALREADY_EXISTS",
        message: `memory "m" exists in domain "${useCases.domain}" and differs in ${fields.replace(",", ", ")}`,
        metadata: { id: "m", domain: useCases.domain, fields },
      });
      expect(await useCases.read("m")).toEqual(first.memory);
    });

    test.each(differences)("replaces all fields if %s differs (%o)", async (_fields, change) => {
      const useCases = start();
      const first = await useCases.store(full);
      const { memory, outcome } = await useCases.store({ ...full, ...change, ifExists: "replace" });
      const { ifExists: _, ...sent } = { ...full, ...change, ifExists: "" };
      expect(outcome).toBe("replaced");
      expect(memory).toMatchObject({ ...sent, version: 2n, createTime: first.memory.createTime });
      // May be equal, because the clock of the embedded engine has millisecond resolution.
      expect(memory.updateTime >= first.memory.updateTime).toBe(true);
      expect(await useCases.read("m")).toEqual(memory);
    });

    test.each(differences)("keeps the existing memory if %s differs (%o)", async (_fields, change) => {
      const useCases = start();
      const first = await useCases.store(full);
      const kept = await useCases.store({ ...full, ...change, ifExists: "keep" });
      expect(kept).toEqual({ memory: first.memory, outcome: "kept" });
    });

    test("clears fields that are not sent", async () => {
      const useCases = start();
      await useCases.store(full);
      const { memory } = await useCases.store({ id: "m", content: "apple @10", ifExists: "replace" });
      expect(memory).toMatchObject({
        source: "",
        importance: undefined,
        tags: [],
        metadata: {},
        expiry: { kind: "never" },
        expireTime: undefined,
      });
    });

    test("replaces the embedding with the content", async () => {
      const useCases = start();
      await useCases.store({ id: "m", content: "apple @0" });
      await useCases.store({ id: "m", content: "pear @80", ifExists: "replace" });
      const { hits } = await useCases.find({ query: "x @80", mode: "semantic" });
      expect(hits[0]?.similarity).toBeCloseTo(1, 5);
      expect(await useCases.idsOf({ query: "apple", mode: "text" })).toEqual([]);
    });

    test("keeps the embedding and the chunks of equal content, even while the embedder is unavailable", async () => {
      const useCases = start({ embedder: createScriptedEmbedder({ maxChunkLength: 40 }) });
      const content = ["one @0", "two @60"].map((part) => part.padEnd(38, ".")).join("\n\n");
      // The model accepts less than its profile declares, so two chunks become three.
      useCases.embedder.failing = (text) =>
        text.length > 30 && text.includes("one") ? "too-long" : undefined;
      const first = await useCases.store({ id: "m", content });
      expect(first.memory.chunkCount).toBeGreaterThan(2);
      useCases.embedder.leave();
      const { memory, outcome } = await useCases.store({
        id: "m",
        content,
        source: "new",
        ifExists: "replace",
      });
      expect(outcome).toBe("replaced");
      expect(memory.embedding).toEqual(first.memory.embedding);
      expect(memory.chunkCount).toBe(first.memory.chunkCount);
      expect(useCases.notified).toEqual([]);
      useCases.embedder.arrive();
      const { hits } = await useCases.find({ query: "x @60", mode: "semantic" });
      expect(hits[0]?.similarity).toBeCloseTo(1, 5);
    });

    test("makes a failed memory pending again when it is replaced", async () => {
      const useCases = start();
      useCases.embedder.failing = () => "rejected";
      await useCases.store({ id: "m" });
      const [leased] = await useCases.repository.leasePending(useCases.domain, 1, 1, 0);
      if (leased === undefined) throw new Error("nothing was leased");
      await useCases.repository.failEmbedding(useCases.domain, leased, "no");
      expect((await useCases.read("m"))?.embedding.state).toBe("failed");
      useCases.embedder.failing = undefined;
      const { memory } = await useCases.store({ id: "m", source: "new", ifExists: "replace" });
      expect(memory.embedding.state).toBe("ready");
    });

    test("treats an expired memory as nonexistent", async () => {
      const useCases = start();
      await useCases.store({ id: "m", content: "old @0", expiry: { kind: "after", ttl: 1n } });
      const { memory, outcome } = await useCases.store({ id: "m", content: "new @0" });
      expect(outcome).toBe("created");
      expect(memory).toMatchObject({ content: "new @0", version: 1n, expireTime: undefined });
    });

    test("creates one memory for fifty equal concurrent calls, and returns fifty equal responses", async () => {
      const useCases = start();
      const stored = await Promise.all(Array.from({ length: 50 }, () => useCases.store(full)));
      const outcomes = stored.map(({ outcome }) => outcome).sort();
      expect(outcomes).toEqual(["created", ...Array.from({ length: 49 }, () => "unchanged")]);
      for (const { memory } of stored) expect(memory).toEqual(stored[0]?.memory);
      expect(await countRows(useCases)).toBe(1);
    });

    test("creates one memory for fifty different concurrent calls, and fails the others", async () => {
      const useCases = start();
      const results = await Promise.allSettled(
        Array.from({ length: 50 }, (_, i) => useCases.store({ id: "m", content: `content ${i}` })),
      );
      const made = results.filter((result) => result.status === "fulfilled");
      expect(made.map(({ value }) => value.outcome)).toEqual(["created"]);
      for (const result of results) {
        if (result.status === "fulfilled") continue;
        expect(result.reason).toMatchObject({
          reason: "MEMORY_ALREADY_EXISTS",
          metadata: { fields: "content" },
        });
      }
      expect(await useCases.read("m")).toEqual(made[0]?.value.memory);
    });

    test("counts a version for each of fifty concurrent replacements", async () => {
      const useCases = start();
      const stored = await Promise.all(
        Array.from({ length: 50 }, (_, i) =>
          useCases.store({ id: "m", content: `content ${i}`, ifExists: "replace" }),
        ),
      );
      const versions = stored.map(({ memory }) => Number(memory.version)).sort((a, b) => a - b);
      expect(versions).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
      expect(stored.filter(({ outcome }) => outcome === "created")).toHaveLength(1);
      const last = stored.find(({ memory }) => memory.version === 50n);
      expect(await useCases.read("m")).toEqual(last?.memory);
    });
  });

  describe("a ttl", () => {
    const ttl = 3_600_000_000n;
    const withTtl: Partial<StoreCommand> = { id: "m", expiry: { kind: "after", ttl } };

    test("expires that long after it was stored", async () => {
      const { memory } = await start().store(withTtl);
      expect(memory.expireTime).toBe(memory.createTime + ttl);
    });

    test.each(["fail", "keep"] as const)(
      "is equal when it is sent again, and the expire time does not move (%s)",
      async (ifExists) => {
        const useCases = start();
        const first = await useCases.store(withTtl);
        expect(await useCases.store({ ...withTtl, ifExists })).toEqual({
          memory: first.memory,
          outcome: "unchanged",
        });
      },
    );

    test("restarts when the memory is replaced, even by an equal one", async () => {
      const useCases = start();
      const first = await useCases.store(withTtl);
      const { memory, outcome } = await useCases.store({ ...withTtl, ifExists: "replace" });
      expect(outcome).toBe("replaced");
      expect(memory).toMatchObject({ version: 2n, createTime: first.memory.createTime });
      expect(memory.expireTime).toBe(memory.updateTime + ttl);
      expect(memory.embedding).toEqual(first.memory.embedding);
    });

    test("differs if its length differs", async () => {
      const useCases = start();
      await useCases.store(withTtl);
      const other = useCases.store({ ...withTtl, expiry: { kind: "after", ttl: ttl + 1n } });
      await expect(other).rejects.toMatchObject({ metadata: { fields: "expiry" } });
    });
  });

  describe("the embedder", () => {
    test("leaves the memory pending and found by full-text search while it is unavailable", async () => {
      const useCases = start();
      useCases.embedder.leave();
      const { memory } = await useCases.store({ id: "m", content: "apple @0" });
      expect(memory.embedding).toEqual({ state: "pending", failureReason: "", version: undefined });
      expect(useCases.notified).toEqual([useCases.domain]);
      expect(await useCases.idsOf({ query: "apple", mode: "text" })).toEqual(["m"]);
    });

    test("leaves the dimensions undefined until it has been available", async () => {
      const useCases = start({ embedder: createScriptedEmbedder({ known: false }) });
      const { memory } = await useCases.store({ id: "m" });
      expect(memory.embedding.state).toBe("pending");
      expect(await useCases.repository.findDomain(useCases.domain)).toMatchObject({
        dimensions: undefined,
        embeddingVersion: undefined,
      });
    });

    test.each(["unavailable", "model-missing", "too-long", "rejected"] as const)(
      "leaves the memory pending if it fails as %s",
      async (kind) => {
        const useCases = start();
        useCases.embedder.failing = () => kind;
        const { memory, outcome } = await useCases.store({ id: "m" });
        expect(outcome).toBe("created");
        expect(memory.embedding.state).toBe("pending");
        expect(useCases.notified).toEqual([useCases.domain]);
      },
    );

    test("is not waited for beyond the budget; a later embedding is used without a second call", async () => {
      const useCases = start({ embedBudgetMs: 0 });
      const release = useCases.embedder.hold();
      const content = "late @0";
      const { memory } = await useCases.store({ id: "m", content });
      expect(memory.embedding.state).toBe("pending");
      expect(callsFor(useCases, content)).toBe(1);
      // A worker does not lease it in the meantime.
      useCases.startWorker().notify(useCases.domain);
      release();
      const ready = await useCases.whenState("m", "ready");
      expect(ready).toMatchObject({ version: 1n, updateTime: memory.updateTime });
      expect(callsFor(useCases, content)).toBe(1);
      expect(useCases.notified).toEqual([]);
    });

    test("that fails after the budget leaves the memory to the worker", async () => {
      const useCases = start({ embedBudgetMs: 0 });
      const release = useCases.embedder.hold();
      const content = "once unlucky @0";
      useCases.embedder.failing = (text) =>
        text === content && callsFor(useCases, content) === 1 ? "unavailable" : undefined;
      useCases.startWorker();
      await useCases.store({ id: "m", content });
      release();
      await useCases.whenState("m", "ready");
      expect(useCases.notified).toEqual([useCases.domain]);
      expect(callsFor(useCases, content)).toBe(2);
    });

    test("is not waited for beyond half of the caller's deadline", async () => {
      const useCases = start();
      const release = useCases.embedder.hold();
      const { memory } = await useCases.store({ id: "m" }, { remainingMs: 2 });
      expect(memory.embedding.state).toBe("pending");
      release();
      await useCases.whenState("m", "ready");
    });

    test("does not change content that was replaced before it finished", async () => {
      const useCases = start({ embedBudgetMs: 0 });
      const release = useCases.embedder.hold();
      await useCases.store({ id: "m", content: "old @0" });
      await useCases.store({ id: "m", content: "new @60", ifExists: "replace" });
      release();
      await useCases.whenState("m", "ready");
      const { hits } = await useCases.find({ query: "x @60", mode: "semantic" });
      expect(hits[0]?.similarity).toBeCloseTo(1, 5);
    });

    test("is not called in background mode", async () => {
      const useCases = start();
      const content = "background @0";
      const { memory } = await useCases.store({ id: "m", content, embeddingMode: "background" });
      expect(memory.embedding.state).toBe("pending");
      expect(useCases.embedder.calls).toEqual([]);
      expect(useCases.notified).toEqual([useCases.domain]);
      useCases.startWorker();
      await useCases.whenState("m", "ready");
      expect(callsFor(useCases, content)).toBe(1);
    });

    test("leaves the memory to the worker, which switches the domain, if its model differs from the domain's", async () => {
      const useCases = start();
      await useCases.store({ id: "old" });
      useCases.embedder.arrive({ ...scriptedSpace, digest: "2" });
      const { memory } = await useCases.store({ id: "new" });
      expect(memory.embedding.state).toBe("pending");
      useCases.startWorker();
      const [ready] = await Promise.all(["new", "old"].map((id) => useCases.whenState(id, "ready")));
      const version = ready?.embedding.version;
      while ((await useCases.read("old"))?.embedding.version !== version);
      expect((await useCases.idsOf({ mode: "semantic" })).sort()).toEqual(["new", "old"]);
    });
  });

  test("does not lead to a stored memory if the caller leaves before the commit", async () => {
    const useCases = start();
    await useCases.store({ id: "other" });
    const release = useCases.embedder.hold();
    const leaving = new AbortController();
    const stored = useCases.store({ id: "m" }, { signal: leaving.signal });
    leaving.abort(new Error("left"));
    release();
    await expect(stored).rejects.toThrow("left");
    expect(await useCases.read("m")).toBeUndefined();
  });
});
