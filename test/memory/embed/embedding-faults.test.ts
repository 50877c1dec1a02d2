import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FakeOllama, type FaultKind, startFakeOllama } from "../../../qa/fakes/ollama/index.ts";
import type { Clock } from "../../../src/embedding/clock.ts";
import { createOllamaEmbedder } from "../../../src/embedding/ollama/ollama-embedder.ts";
import { createContentEmbedder } from "../../../src/memory/embed/content-embedder.ts";
import { type EmbeddingWorker, startEmbeddingWorker } from "../../../src/memory/embed/embedding-worker.ts";
import type { Memory } from "../../../src/memory/model/memory.ts";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { createMemoryUseCases, type MemoryUseCases } from "../../../src/memory/use-cases.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { newDomainName } from "../../support/drafts.ts";
import { searchCommand, storeCommand } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";
import { silentLogger } from "../../support/silent-logger.ts";

/** The embedder's pauses and time-outs take a twentieth of their time. */
const SPEED = 20;
const fastClock: Clock = {
  now: () => performance.now() * SPEED,
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, delayMs / SPEED);
    return () => clearTimeout(timer);
  },
};

/** Long enough for whatever goes well, and over at once for what hangs. */
const BUDGET_MS = 100;

/** That of every request while the fault lasts. */
const FAULTS: readonly FaultKind[] = [
  { kind: "down" },
  { kind: "slow", ms: 150 },
  { kind: "notFound" },
  { kind: "busy" },
  { kind: "eof" },
  { kind: "serverError" },
  { kind: "nan" },
  { kind: "nan400" },
  { kind: "zeros" },
  { kind: "nulls" },
  { kind: "strings" },
  { kind: "wrongCount" },
  { kind: "wrongCount", delta: 1 },
  { kind: "wrongDim", dims: 512 },
  { kind: "wrongDim", dims: 512, at: 1 },
  { kind: "dimDrift", dims: 512 },
  { kind: "swap" },
  { kind: "constant" },
  { kind: "notUnit", scale: 21.7 },
  { kind: "drift", angle: 0.3 },
  { kind: "caseBug" },
  { kind: "garbage", form: "truncated" },
  { kind: "wrongType", form: "proxy" },
  { kind: "hang", phase: "answer" },
  { kind: "hang", phase: "body" },
  { kind: "reset", phase: "body" },
  { kind: "close", phase: "headers" },
  { kind: "staleKeepAlive" },
  { kind: "redirect" },
];

describe.each(databaseEngines())("whatever Ollama does, on $name,", ({ open }) => {
  let database: Database;
  let repository: Repository;
  let fake: FakeOllama;
  let embedder: ReturnType<typeof createOllamaEmbedder>;
  let memories: MemoryUseCases;
  let worker: EmbeddingWorker;
  let stored = 0;

  beforeAll(async () => {
    database = await open({ poolSize: 4 });
    repository = createPostgresRepository(database);
    fake = await startFakeOllama();
    const logger = silentLogger;
    embedder = createOllamaEmbedder({
      url: fake.url,
      model: "nomic-embed-text",
      pull: false,
      logger,
      clock: fastClock,
      metadataTimeoutMs: 100_000,
      warmTimeoutMs: 40_000,
    });
    const contents = createContentEmbedder({ embedder, repository, logger });
    worker = startEmbeddingWorker({ repository, contents, embedders: embedder, logger });
    memories = createMemoryUseCases({
      repository,
      contents,
      embedBudgetMs: BUDGET_MS,
      createDomains: true,
      onPending: (domain) => worker.notify(domain),
      logger,
    });
    await embedder.embed(["ready"], "query");
  });
  afterAll(async () => {
    await memories.close();
    await worker.close();
    await embedder.close();
    await fake.close();
    await database.close();
  });

  const call = () => ({ signal: new AbortController().signal, remainingMs: undefined });
  const contentOf = (id: string) => `Memory ${id} of the Harbour and its Lighthouse`;
  /** Two alone and some in a batch. */
  const storeSome = async (domain: string): Promise<string[]> => {
    const commandOf = (id: string) => ({ ...storeCommand(domain), id, content: contentOf(id) });
    const ids = Array.from({ length: 7 }, () => `m${stored++}`);
    for (const id of ids.slice(0, 2)) await memories.store(commandOf(id), call());
    await memories.batchStore({ atomic: false, items: ids.slice(2).map(commandOf) }, call());
    return ids;
  };
  const read = async (domain: string, id: string): Promise<Memory> => {
    const memory = await repository.read(domain, id);
    if (memory === undefined) throw new Error(`${id} does not exist`);
    return memory;
  };
  /** What a healthy Ollama makes of the text alone, as it is now. */
  const rightly = async (content: string): Promise<number[]> => {
    const response = await fetch(`${fake.url}/api/embed`, {
      method: "POST",
      body: JSON.stringify({ model: "nomic-embed-text", input: `search_document: ${content.toLowerCase()}` }),
    });
    return ((await response.json()) as { embeddings: number[][] }).embeddings[0] ?? [];
  };
  /** The largest difference between what is stored as ready and what it should be. */
  const errorOf = async (domain: string, id: string): Promise<number> => {
    const memory = await read(domain, id);
    const { version = 0 } = memory.embedding;
    const vector = (await repository.readEmbeddings(domain, [memory], version)).get(id)?.[0]?.vector;
    if (vector === undefined) throw new Error(`${id} has no embedding`);
    const right = await rightly(memory.content);
    expect(vector).toHaveLength(right.length);
    return Math.max(...vector.map((value, at) => Math.abs(value - (right[at] ?? Number.NaN))));
  };
  /** Resolves when all are ready; pauses of the worker are cut short. */
  const whenReady = async (domain: string, ids: readonly string[], version?: number): Promise<void> => {
    for (const id of ids) {
      for (;;) {
        const { embedding } = await read(domain, id);
        if (embedding.state === "ready" && (version === undefined || embedding.version === version)) break;
        await hurry(domain);
      }
    }
  };
  const hurry = async (domain: string) => {
    await database.query({
      text: `update "${domain}_memories" set embed_after = now()
        where embed_after > now() + interval '1 second' and embedding_state = 'pending'`,
    });
    worker.notify(domain);
    await new Promise((resolve) => setTimeout(resolve, 20));
  };

  test.each(FAULTS.map((fault) => [JSON.stringify(fault), fault] as const))(
    "no wrong embedding is stored, and all are right when it is over: %s",
    { timeout: 30_000 },
    async (_, fault) => {
      const domain = newDomainName();
      const before = await storeSome(domain);
      await whenReady(domain, before);
      const match = fault.kind === "notFound" ? undefined : { path: "/api/embed" };
      fake.faults.enqueue({ ...fault, times: 1_000, ...(match === undefined ? {} : { match }) });
      const during = await storeSome(domain);
      expect(
        (await memories.search.search({ ...searchCommand(domain), query: "lighthouse", limit: 100 }, call()))
          .hits,
        "found by full-text search at least",
      ).toHaveLength(before.length + during.length);
      fake.faults.clear();
      await fake.up();
      for (const id of during) {
        if ((await read(domain, id)).embedding.state === "ready")
          expect(await errorOf(domain, id)).toBeLessThan(1e-6);
      }
      const after = await storeSome(domain);
      const all = [...before, ...during, ...after];
      const { version } = (await read(domain, before[0] ?? "")).embedding;
      await whenReady(domain, all, fault.kind === "drift" ? undefined : version);
      for (const id of all) expect(await errorOf(domain, id)).toBeLessThan(1e-6);
    },
  );

  test("a text that breaks the model fails alone, after five attempts, and RetryFailed embeds it", {
    timeout: 30_000,
  }, async () => {
    const domain = newDomainName();
    fake.faults.enqueue({ kind: "poison", textIncludes: "venom" });
    const commandOf = (id: string) => ({
      ...storeCommand(domain),
      id,
      content: id === "poisoned" ? "Venom of the Harbour" : contentOf(id),
    });
    const good = Array.from({ length: 9 }, (_, i) => `good${i}`);
    const ids = [...good.slice(0, 4), "poisoned", ...good.slice(4)];
    await memories.batchStore({ atomic: false, items: ids.map(commandOf) }, call());
    await whenReady(domain, good);
    for (const id of good) expect(await errorOf(domain, id)).toBeLessThan(1e-6);
    while ((await read(domain, "poisoned")).embedding.state === "pending") await hurry(domain);
    expect((await read(domain, "poisoned")).embedding).toMatchObject({
      state: "failed",
      failureReason: "the model returns only zeros for a text",
    });
    const { hits } = await memories.search.search({ ...searchCommand(domain), query: "venom" }, call());
    expect(hits[0]?.memory.id).toBe("poisoned");

    fake.faults.clear();
    expect(await memories.retryFailed({ domain, filter: undefined }, call())).toBe(1n);
    await whenReady(domain, ["poisoned"]);
    expect(await errorOf(domain, "poisoned")).toBeLessThan(1e-6);
  });

  test.each([
    [
      "an upgraded engine that embeds differently",
      () => void fake.faults.enqueue({ kind: "drift", angle: 0.3 }),
    ],
    [
      "another model under the same name",
      () => {
        const model = fake.models.find("nomic-embed-text");
        if (model !== undefined) fake.models.add({ ...model, digest: "f".repeat(64) });
      },
    ],
  ])("%s re-embeds everything in a new embedding version", { timeout: 30_000 }, async (_, change) => {
    const domain = newDomainName();
    const before = await storeSome(domain);
    await whenReady(domain, before);
    const { version = 0 } = (await read(domain, before[0] ?? "")).embedding;
    change();
    const all = [...before, ...(await storeSome(domain))];
    const next = async () => (await repository.readDomain(domain))?.embeddingVersion ?? 0;
    while ((await next()) === version) await hurry(domain);
    await whenReady(domain, all, await next());
    for (const id of all) expect(await errorOf(domain, id)).toBeLessThan(1e-6);
    const { hits, info } = await memories.search.search(
      { ...searchCommand(domain), query: contentOf(all[0] ?? ""), mode: "semantic", limit: 1 },
      call(),
    );
    expect(hits[0]?.memory.id).toBe(all[0]);
    expect(info.embeddingVersion).toBe(await next());
  });
});
