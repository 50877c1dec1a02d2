import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../../../src/storage/database/database.ts";
import { at, newDomainName } from "../../support/drafts.ts";
import { createDomainServer, type DomainServer } from "../../support/in-process/domain-service.ts";
import { scriptedSpace } from "../../support/in-process/scripted-embedder.ts";
import { createUseCases, searchCommand, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines, openSibling } from "../../support/postgres/databases.ts";

const otherModel = { ...scriptedSpace, model: "other:latest", dimensions: 5 };

// Each server caches domains, prepared statements and running work. On the embedded engine, which allows one process, both
// share its connection.
describe.each(databaseEngines())("two servers on $name", ({ open, engine }) => {
  let database: Database;
  let sibling: Database;
  let first: UseCases & DomainServer;
  let second: UseCases & DomainServer;
  let domain: string;

  beforeEach(async () => {
    database = await open({ poolSize: 4 });
    sibling = engine === "postgres" ? await openSibling(database) : database;
    const start = (on: Database) => {
      const useCases = createUseCases(on);
      return Object.assign(useCases, createDomainServer(useCases));
    };
    first = start(database);
    second = start(sibling);
    domain = newDomainName();
    await first.client.createDomain({ name: domain });
  });
  afterEach(async () => {
    await first.close();
    await second.close();
    if (sibling !== database) await sibling.close();
    await database.close();
  });

  const idsOf = async (server: UseCases, query: string, mode: "hybrid" | "semantic" | "text" = "hybrid") =>
    (
      await server.find({ domains: [domain], query, mode, allowFallback: false, minSimilarity: 0.5 })
    ).hits.map(({ memory }) => memory.id);
  const read = async (server: UseCases, id: string) => await server.repository.read(domain, id);
  /** Has it remember everything that it may. */
  const warm = async (server: UseCases & DomainServer) => {
    for (let i = 0; i < 3; i++) {
      await server.store({ domain, id: "m", content: "old houses @30" });
      for (const mode of ["hybrid", "semantic", "text"] as const) {
        expect(await idsOf(server, "old houses @30", mode)).toEqual(["m"]);
      }
      expect(await read(server, "m")).toMatchObject({ content: "old houses @30" });
    }
    expect((await server.client.getDomain({ name: domain })).domain).toMatchObject({ memoryCount: 1n });
  };
  const makeAgain = async (settings = {}) => {
    await first.client.deleteDomain({ name: domain, confirmName: domain });
    await first.client.createDomain({ name: domain, ...settings });
  };

  test("do not find memories of a domain that the other has recreated", async () => {
    await warm(second);
    await makeAgain();
    for (const mode of ["hybrid", "text", "semantic"] as const) {
      expect(await idsOf(second, "old houses @30", mode)).toEqual([]);
    }
    expect(await read(second, "m")).toBeUndefined();
    expect((await second.client.getDomain({ name: domain })).domain).toMatchObject({ memoryCount: 0n });
    const stored = await second.store({ domain, id: "m", content: "new towers @60" });
    expect(stored).toMatchObject({ outcome: "created", memory: { version: 1n } });
    expect(await idsOf(second, "old houses @30", "text")).toEqual([]);
    for (const server of [first, second]) expect(await idsOf(server, "new towers @60")).toEqual(["m"]);
  });

  test("return NotFound for a domain that the other has deleted", async () => {
    await warm(second);
    await first.client.deleteDomain({ name: domain, confirmName: domain });
    await expect(idsOf(second, "old houses @30")).rejects.toMatchObject({ reason: "DOMAIN_NOT_FOUND" });
    await expect(read(second, "m")).rejects.toMatchObject({ reason: "DOMAIN_NOT_FOUND" });
  });

  test("apply the settings of a domain that the other has recreated at once", async () => {
    await warm(second);
    await makeAgain({ textSearchConfig: "german", deduplicateContent: true });
    await second.store({ domain, id: "a", content: "zwei Häuser @0" });
    expect(await idsOf(second, "Haus", "text")).toEqual(["a"]);
    expect((await second.store({ domain, id: "b", content: "zwei Häuser @0" })).outcome).toBe("duplicate");
  });

  test("store and search at once in a domain that the other has recreated with other dimensions", async () => {
    await warm(second);
    first.embedder.arrive(otherModel);
    second.embedder.arrive(otherModel);
    await makeAgain();
    const stored = await second.store({ domain, id: "m", content: "new towers @60" });
    expect(stored).toMatchObject({ outcome: "created", memory: { embedding: { state: "ready" } } });
    expect(await idsOf(second, "new towers @60", "semantic")).toEqual(["m"]);
  });

  test("search at once in a domain that the other has recreated with other dimensions", async () => {
    await warm(second);
    first.embedder.arrive(otherModel);
    second.embedder.arrive(otherModel);
    await makeAgain();
    await first.store({ domain, id: "m", content: "new towers @60" });
    expect(await idsOf(second, "new towers @60", "semantic")).toEqual(["m"]);
    expect(await idsOf(second, "old houses @30", "text")).toEqual([]);
  });

  test("do not fail in a domain that the other has recreated with the dimensions of another model", async () => {
    await warm(second);
    first.embedder.arrive(otherModel);
    await makeAgain();
    await first.store({ domain, content: "new towers @60" });
    expect(await idsOf(second, "old houses @30")).toEqual([]);
    const embeddingVersion = (await first.repository.readDomain(domain))?.embeddingVersion ?? 0;
    const query = { embedding: at(30), embeddingVersion, depth: 5, minSimilarity: undefined };
    await expect(second.repository.searchSemantic(domain, query)).rejects.toMatchObject({
      reason: "CONFLICT",
      message: `domain "${domain}" was changed concurrently`,
    });
    await first.client.deleteDomain({ name: domain, confirmName: domain });
    await warm(second);
    await makeAgain();
    const stored = await second.store({ domain, id: "m", content: "new towers @60" });
    expect(stored).toMatchObject({ outcome: "created", memory: { embedding: { state: "pending" } } });
  });

  test.each(["the same", "other"])(
    "never write the embedding of an old memory to a new memory of the same id, with %s dimensions",
    async (dimensions) => {
      await first.store({ domain, id: "m", content: "old houses @30", embeddingMode: "background" });
      const release = second.embedder.hold();
      const worker = second.startWorker();
      while (!second.embedder.calls.some(({ texts }) => texts.includes("old houses @30")))
        await read(first, "m");

      if (dimensions === "other") first.embedder.arrive(otherModel);
      await makeAgain();
      await first.store({ domain, id: "m", content: "new towers @60" });
      const before = await read(first, "m");
      expect(before).toMatchObject({ embedding: { state: "ready" } });
      release();
      await worker.close();
      expect(await read(first, "m")).toEqual(before);
      expect(await idsOf(first, "new towers @60", "semantic")).toEqual(["m"]);
      const { hits } = await first.find({ domains: [domain], query: "x @60", mode: "semantic" });
      expect(hits[0]?.score).toBeCloseTo(1);
    },
  );

  test("do not send a deleted memory in a stream that was ranked before", async () => {
    for (let i = 0; i < 300; i++) {
      await first.store({ domain, id: `m${i}`, content: `old houses ${i} @30`, embeddingMode: "background" });
    }
    const command = { ...searchCommand(domain), query: "old houses", limit: 300, mode: "text" } as const;
    const signal = new AbortController().signal;
    const stream = await second.search.stream(command, { signal, remainingMs: undefined });
    expect((await stream.hits.next()).value?.memory.content).toMatch(/^old houses/);
    await makeAgain();
    await first.store({ domain, id: "m0", content: "new towers @60" });
    const contents: string[] = [];
    for await (const { memory } of stream.hits) contents.push(memory.content);
    // One page that was read before the deletion may still be sent.
    expect(contents.length).toBeLessThan(150);
  });

  test("use the new stemming at once when the other changes the text search configuration", async () => {
    await warm(second);
    await first.client.updateDomain({
      domain: { name: domain, textSearchConfig: "simple" },
      updateMask: { paths: ["text_search_config"] },
    });
    await second.store({ domain, id: "n", content: "tall towers @60" });
    expect(await idsOf(second, "towers", "text")).toEqual(["n"]);
    expect(await idsOf(second, "houses", "text")).toEqual(["m"]);
    const reindexer = second.startReindexer();
    try {
      while ((await first.repository.listReindexing()).includes(domain));
    } finally {
      await reindexer.close();
    }
    for (const server of [first, second]) {
      expect(await idsOf(server, "houses", "text")).toEqual(["m"]);
      expect(await idsOf(server, "house", "text")).toEqual([]);
    }
  });
});
