import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { newDomainName } from "../../support/drafts.ts";
import { createScriptedEmbedder, scriptedSpace } from "../../support/in-process/scripted-embedder.ts";
import { createUseCases, type UseCaseOptions, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

// These tests notify the worker instead of waiting for its intervals.
describe.each(databaseEngines())("the embedding worker on $name", ({ open }) => {
  // A worker checks every domain, so each test has a separate database.
  let database: Database;
  let opened: UseCases[];

  beforeEach(async () => {
    opened = [];
    database = await open({ poolSize: 8 });
  });
  afterEach(async () => {
    for (const useCases of opened) await useCases.close();
    await database.close();
  });

  const start = (options?: UseCaseOptions) => {
    const useCases = createUseCases(database, options);
    opened.push(useCases);
    return useCases;
  };
  /** A domain that comes after another one in their order. */
  const startAfter = ({ domain, embedder }: UseCases): UseCases => {
    const useCases = start({ embedder });
    return useCases.domain > domain ? useCases : startAfter({ ...useCases, domain });
  };
  /** Creates a domain that has a version, with pending memories. */
  const startWithPending = async (contents: readonly string[], options?: UseCaseOptions) => {
    const useCases = start(options);
    await useCases.store({ id: "first", content: "first @0" });
    for (const [i, content] of contents.entries()) {
      await useCases.store({ id: `m${i}`, content, embeddingMode: "background" });
    }
    return useCases;
  };
  const callsFor = ({ embedder }: UseCases, text: string) =>
    embedder.calls.filter(({ texts }) => texts.includes(text)).length;
  /** Makes everything due that waits for a lease or a pause. */
  const hurry = async (domain: string) => {
    await database.query({
      text: `update "${domain}_memories" set embed_after = now() - interval '1 second'`,
    });
  };

  test("embeds pending memories when it starts", async () => {
    const useCases = await startWithPending(["apple @30", "pear @60"]);
    expect((await useCases.read("m0"))?.embedding.state).toBe("pending");
    useCases.startWorker();
    await useCases.whenState("m0", "ready");
    await useCases.whenState("m1", "ready");
    const { hits } = await useCases.find({ query: "x @60", mode: "semantic" });
    expect(hits[0]).toMatchObject({ id: "m1" });
  });

  test("marks a memory without text as failed at once", async () => {
    const useCases = await startWithPending([" \n\t"]);
    useCases.startWorker();
    await useCases.whenState("m0", "failed");
    expect((await useCases.read("m0"))?.embedding.failureReason).toBe("the content has no text to embed");
    expect(useCases.embedder.calls.some(({ texts }) => texts.includes(" \n\t"))).toBe(false);
  });

  test("embeds more memories than it leases at once", async () => {
    const contents = Array.from({ length: 150 }, (_, i) => `memory ${i}`);
    const useCases = await startWithPending(contents);
    useCases.startWorker();
    for (const i of contents.keys()) await useCases.whenState(`m${i}`, "ready");
    for (const content of contents) expect(callsFor(useCases, content)).toBe(1);
  });

  test("embeds in every domain, and checks notified domains at once", async () => {
    const useCases = await startWithPending(["apple @30"]);
    const other = start({ embedder: useCases.embedder });
    await other.store({ id: "m0", content: "pear @30", embeddingMode: "background" });
    const worker = useCases.startWorker();
    await useCases.whenState("m0", "ready");
    await other.whenState("m0", "ready");
    await other.store({ id: "m1", content: "plum @30", embeddingMode: "background" });
    worker.notify(other.domain);
    await other.whenState("m1", "ready");
  });

  test("gives each domain a turn, however many memories the first one has", async () => {
    const contents = Array.from({ length: 200 }, (_, i) => `memory ${i}`);
    const large = await startWithPending(contents);
    const small = startAfter(large);
    await small.store({ id: "m0", content: "pear", embeddingMode: "background" });
    large.startWorker();
    await small.whenState("m0", "ready");
    await large.whenState("m199", "ready");
    const texts = large.embedder.calls.flatMap((call) => call.texts);
    expect(texts.indexOf("pear")).toBeLessThan(texts.indexOf("memory 199"));
  });

  test("continues with the other domains if one fails", async () => {
    const failing = await startWithPending(["apple"], {
      wrap: (repository): Repository => ({
        ...repository,
        async leasePending(domain, ...rest) {
          if (domain === failing.domain) throw new Error("the table is damaged");
          return await repository.leasePending(domain, ...rest);
        },
      }),
    });
    const sound = startAfter(failing);
    await sound.store({ id: "m0", content: "pear", embeddingMode: "background" });
    failing.startWorker();
    await sound.whenState("m0", "ready");
    expect((await failing.read("m0"))?.embedding.state).toBe("pending");
  });

  test("embeds a memory that changed in the meantime without delay", async () => {
    const useCases = await startWithPending(["apple"]);
    const release = useCases.embedder.hold();
    useCases.startWorker();
    await expect.poll(() => callsFor(useCases, "apple")).toBe(1);
    await useCases.update("m0", { content: "pear" }, { embeddingMode: "background" });
    // As the worker does when it extends the lease of the old content.
    await useCases.repository.postponeEmbedding(useCases.domain, ["m0"], 3_600_000, true);
    release();
    await useCases.whenState("m0", "ready");
    expect(callsFor(useCases, "pear")).toBe(1);
  });

  test("accepts a notification of a domain while it embeds it", async () => {
    let leases = 0;
    const busy = Promise.withResolvers<void>();
    const useCases = await startWithPending(["apple @30"], {
      wrap: (repository): Repository => ({
        ...repository,
        async leasePending(domain, ...rest) {
          const leased = await repository.leasePending(domain, ...rest);
          // The worker has just found that nothing is due.
          if (leased.length === 0 && leases++ === 0) {
            await store();
            busy.resolve();
          }
          return leased;
        },
      }),
    });
    const store = async () => {
      await useCases.store({ id: "late", content: "late @0", embeddingMode: "background" });
    };
    useCases.startWorker();
    await busy.promise;
    await useCases.whenState("late", "ready");
  });

  test("marks a memory that the model keeps rejecting as failed, and continues with the others", async () => {
    const useCases = await startWithPending(["poison", "apple @30"]);
    useCases.embedder.failing = (text) => (text === "poison" ? "rejected" : undefined);
    const worker = useCases.startWorker();
    await useCases.whenState("m1", "ready");
    expect((await useCases.read("m0"))?.embedding.state).toBe("pending");
    while ((await useCases.read("m0"))?.embedding.state === "pending") {
      await hurry(useCases.domain);
      worker.notify(useCases.domain);
    }
    expect((await useCases.read("m0"))?.embedding).toEqual({
      state: "failed",
      failureReason: "the model says rejected",
      version: undefined,
    });
    expect(callsFor(useCases, "poison")).toBe(5);
    expect(await useCases.idsOf({ query: "poison", mode: "text" })).toEqual(["m0"]);
    // The worker does not attempt it again.
    await hurry(useCases.domain);
    await useCases.store({ id: "next", content: "next @0", embeddingMode: "background" });
    await useCases.whenState("next", "ready");
    expect(callsFor(useCases, "poison")).toBe(5);
  });

  test("leaves memories pending while the embedder is unavailable, and resumes when it returns", async () => {
    const useCases = await startWithPending(["apple @30", "pear @60"]);
    useCases.embedder.leave();
    useCases.startWorker().notify(useCases.domain);
    await useCases.store({ id: "m2", content: "plum @0", embeddingMode: "background" });
    expect((await useCases.read("m0"))?.embedding.state).toBe("pending");
    expect(await useCases.idsOf({ query: "apple", mode: "text" })).toEqual(["m0"]);
    useCases.embedder.arrive();
    for (const id of ["m0", "m1", "m2"]) await useCases.whenState(id, "ready");
  });

  test("does not count an attempt while the embedder is unavailable", async () => {
    const useCases = await startWithPending(["apple @30"]);
    const postponed = Promise.withResolvers<void>();
    const { embedder } = useCases;
    // Calls fail although the state of the embedder still says that it is available.
    embedder.failing = () => {
      if (callsFor(useCases, "apple @30") > 0) embedder.leave();
      return "unavailable";
    };
    const { repository } = useCases;
    const watched = start({
      embedder,
      wrap: () => ({
        ...repository,
        async postponeEmbedding(...parameters) {
          await repository.postponeEmbedding(...parameters);
          postponed.resolve();
        },
      }),
    });
    watched.startWorker();
    await postponed.promise;
    expect((await useCases.read("m0"))?.embedding.state).toBe("pending");
    await hurry(useCases.domain);
    expect(await repository.leasePending(useCases.domain, 1, 1, 0)).toMatchObject([
      { id: "m0", attempts: 1 },
    ]);
  });

  test("embeds a domain that was written before the model was known", async () => {
    const useCases = start({ embedder: createScriptedEmbedder({ known: false }) });
    useCases.startWorker();
    await useCases.store({ id: "m0", content: "apple @30" });
    expect((await useCases.read("m0"))?.embedding.state).toBe("pending");
    useCases.embedder.arrive();
    await useCases.whenState("m0", "ready");
    expect(await useCases.repository.findDomain(useCases.domain)).toMatchObject({ dimensions: 3 });
    const { info } = await useCases.find({ query: "apple @30" });
    expect(info).toMatchObject({ modeUsed: "hybrid", degraded: undefined });
  });

  test.each([
    ["the same", scriptedSpace.dimensions],
    ["other", 5],
  ])("re-embeds memories of another model with %s dimensions", async (_name, dimensions) => {
    const useCases = await startWithPending(["apple @30"]);
    useCases.startWorker();
    const before = await useCases.whenState("m0", "ready");
    useCases.embedder.arrive({ ...scriptedSpace, model: "next:latest", dimensions });
    let after = before;
    while (after.embedding.version === before.embedding.version || after.embedding.state !== "ready") {
      after = (await useCases.read("m0")) ?? before;
    }
    expect(after).toMatchObject({ version: before.version, updateTime: before.updateTime });
    const { hits, info } = await useCases.find({ query: "x @30", mode: "semantic", limit: 1 });
    expect(hits).toMatchObject([{ id: "m0" }]);
    expect(info.embeddingVersion).toBe(after.embedding.version);
  });

  test("switches all domains when the model changes during a round", async () => {
    const next = { ...scriptedSpace, model: "next:latest" };
    let changed = false;
    const first = await startWithPending(["apple @30"], {
      wrap: (repository): Repository => ({
        ...repository,
        async leasePending(...parameters) {
          const leased = await repository.leasePending(...parameters);
          // The worker has finished the first domain and not yet the second.
          if (leased.length === 0 && !changed) {
            changed = true;
            first.embedder.arrive(next);
          }
          return leased;
        },
      }),
    });
    const second = start({ embedder: first.embedder });
    await second.store({ id: "m0", content: "pear @60" });
    first.startWorker();
    for (const { domain, repository, whenState } of [first, second]) {
      while ((await repository.readDomain(domain))?.embeddingVersion !== 2) await whenState("m0", "ready");
    }
  });

  test("creates a domain for the current model if that changes during the creation", async () => {
    const next = { ...scriptedSpace, model: "next:latest" };
    const useCases = start({
      wrap: (repository) => ({
        ...repository,
        async useEmbeddingVersion(...parameters) {
          if (useCases.embedder.space() === scriptedSpace) useCases.embedder.arrive(next);
          return await repository.useEmbeddingVersion(...parameters);
        },
      }),
    });
    await useCases.store({ id: "m0", content: "apple @30", embeddingMode: "background" });
    const { repository, domain, contents } = useCases;
    expect((await repository.readDomain(domain))?.embeddingVersion).toBe((await contents.current())?.version);
  });

  test("re-embeds memories that an older chunker has split", async () => {
    const older = start({ embedder: createScriptedEmbedder({ maxChunkLength: 100 }) });
    const content = `${"a pear. ".repeat(20)}apple @30`;
    await older.store({ id: "m0", content });
    const before = await older.whenState("m0", "ready");
    const chunks = older.contents.countChunks(content);
    const newer = start({
      embedder: createScriptedEmbedder({ maxChunkLength: 50 }),
      wrap: (repository) => ({
        ...repository,
        registerEmbeddingVersion: (space, chunker) => repository.registerEmbeddingVersion(space, chunker + 1),
      }),
    });
    newer.startWorker();
    let after = before;
    while (after.embedding.version === before.embedding.version || after.embedding.state !== "ready") {
      after = (await older.read("m0")) ?? before;
    }
    expect(after).toMatchObject({ version: before.version, updateTime: before.updateTime });
    expect(before.chunkCount).toBe(chunks);
    expect(after.chunkCount).toBe(newer.contents.countChunks(content));
    expect(after.chunkCount).toBeGreaterThan(before.chunkCount);
    const { hits, info } = await newer.find({ domains: [older.domain], query: "x @30", mode: "semantic" });
    expect(hits[0]).toMatchObject({ id: "m0", chunkIndex: after.chunkCount - 1 });
    expect(info.embeddingVersion).toBe(after.embedding.version);
  });

  test("ignores a deleted domain", async () => {
    const useCases = await startWithPending(["apple @30"]);
    const dropped = newDomainName();
    await useCases.repository.createDomain(dropped, 3);
    await database.execute(`drop table "${dropped}_chunks"; drop table "${dropped}_memories";`);
    useCases.startWorker();
    await useCases.whenState("m0", "ready");
  });

  test("shares the work with workers of other servers", async () => {
    const contents = Array.from({ length: 200 }, (_, i) => `memory ${i}`);
    const first = await startWithPending(contents);
    const second = start({ embedder: createScriptedEmbedder() });
    first.startWorker();
    second.startWorker();
    for (const i of contents.keys()) await first.whenState(`m${i}`, "ready");
    for (const content of contents) expect(callsFor(first, content) + callsFor(second, content)).toBe(1);
  });

  test("stops at once, even while it embeds", async () => {
    const useCases = await startWithPending(["apple @30"]);
    useCases.embedder.hold();
    const worker = useCases.startWorker();
    const asked = () => callsFor(useCases, "apple @30") > 0;
    while (!asked()) await useCases.read("m0");
    await worker.close();
    expect((await useCases.read("m0"))?.embedding.state).toBe("pending");
  });

  test("releases its leases at once when it stops, and another server continues", async () => {
    const first = await startWithPending(["apple @30", "pear @60"]);
    first.embedder.hold();
    const second = start({ embedder: createScriptedEmbedder() });
    second.startWorker();
    await second.store({ id: "warm", content: "warm @0", embeddingMode: "background" });
    const worker = first.startWorker();
    while (callsFor(first, "apple @30") + callsFor(second, "apple @30") === 0) await first.read("m0");
    await worker.close();
    for (const id of ["m0", "m1"]) {
      await first.whenState(id, "ready");
    }
  });

  test("releases its leases without counting the attempt", async () => {
    const useCases = await startWithPending(["apple @30"]);
    useCases.embedder.hold();
    const worker = useCases.startWorker();
    while (callsFor(useCases, "apple @30") === 0) await useCases.read("m0");
    await worker.close();
    expect(await useCases.repository.leasePending(useCases.domain, 1, 1, 0)).toMatchObject([
      { id: "m0", attempts: 1 },
    ]);
  });

  test("counts attempts across restarts", async () => {
    const useCases = await startWithPending(["poison"]);
    useCases.embedder.failing = (text) => (text === "poison" ? "rejected" : undefined);
    for (let attempt = 1; attempt <= 5; attempt++) {
      await hurry(useCases.domain);
      const worker = useCases.startWorker();
      while (callsFor(useCases, "poison") < attempt) await useCases.read("m0");
      await worker.close();
    }
    expect((await useCases.read("m0"))?.embedding).toMatchObject({ state: "failed" });
    expect(callsFor(useCases, "poison")).toBe(5);
  });

  test("extends its lease while the embedder is slow", async () => {
    const prolonged = Promise.withResolvers<void>();
    let times = 0;
    const useCases = await startWithPending(["apple @30"], {
      wrap: (repository) => ({
        ...repository,
        async postponeEmbedding(...parameters) {
          await repository.postponeEmbedding(...parameters);
          if (++times === 3) prolonged.resolve();
        },
      }),
    });
    const release = useCases.embedder.hold();
    useCases.startWorker({ leaseMs: 3_000 });
    await prolonged.promise;
    // Later than the end of the first lease.
    expect(await useCases.repository.leasePending(useCases.domain, 1, 1, 0)).toEqual([]);
    release();
    await useCases.whenState("m0", "ready");
    expect(callsFor(useCases, "apple @30")).toBe(1);
  });

  test("releases the memory of a late embedding at once when its server stops", async () => {
    const useCases = await startWithPending([], { embedBudgetMs: 0 });
    useCases.embedder.hold();
    await useCases.store({ id: "late", content: "late @0" });
    expect(await useCases.repository.leasePending(useCases.domain, 1, 1, 0)).toEqual([]);
    await useCases.memories.close();
    expect(await useCases.repository.leasePending(useCases.domain, 1, 1, 0)).toMatchObject([{ id: "late" }]);
  });

  test("stops at once when it has just run out of work", async () => {
    const found = Promise.withResolvers<() => void>();
    const useCases = await startWithPending([], {
      wrap: (repository) => ({
        ...repository,
        async leasePending(...parameters) {
          const leased = await repository.leasePending(...parameters);
          await new Promise<void>((resolve) => found.resolve(resolve));
          return leased;
        },
      }),
    });
    const worker = useCases.startWorker();
    const goOn = await found.promise;
    const closed = worker.close();
    goOn();
    await closed;
  });
});
