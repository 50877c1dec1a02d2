import { Code, createClient } from "@connectrpc/connect";
import {
  MemoryService,
  SearchInfo_Explanation_SemanticScan,
  SearchMode,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../../src/storage/database/database.ts";
import { grpcTransport, startTestListener } from "../../server/harness.ts";
import { newDomainName } from "../../support/drafts.ts";
import { collect, errorOf, memoryServiceRoutes } from "../../support/in-process/service.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

describe.each(databaseEngines())("a search of several domains over gRPC on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let other: string;

  beforeAll(async () => {
    database = await open();
    useCases = createUseCases(database);
    other = newDomainName();
    await useCases.store({ id: "here", content: "an apple @0" });
    await useCases.store({ id: "there", content: "an apple @10", domain: other });
  });
  afterAll(() => database.close());

  const connect = async () => {
    const { url } = await startTestListener(memoryServiceRoutes(useCases));
    return createClient(MemoryService, grpcTransport(url));
  };

  test("returns the domain of each hit", async () => {
    const client = await connect();
    const domains = [useCases.domain, other];
    for (const scope of [{ domains }, { allDomains: true }]) {
      const { hits, info } = await client.search({ query: "apple @0", ...scope });
      expect(hits.map(({ memory }) => [memory?.domain, memory?.id])).toEqual([
        [useCases.domain, "here"],
        [other, "there"],
      ]);
      expect(info).toMatchObject({ mergedByRank: false, degraded: false, limitFilled: true });
      const messages = await collect(client.streamSearch({ query: "apple @0", ...scope }));
      expect(messages.map(({ item }) => item.case)).toEqual(["info", "hit", "hit", "summary"]);
    }
    const { hits } = await client.search({ query: "apple @0" });
    expect(hits.map(({ memory }) => memory?.id)).toEqual(["here"]);
  });

  test("explains it when asked", async () => {
    const client = await connect();
    const request = { query: "the apples", domains: [useCases.domain, other], explain: true };
    const { info } = await client.search(request);
    expect(info?.explanation).toMatchObject({
      ranking: { textWeight: 0.55, semanticWeight: 0.45, importanceWeight: 0, diversity: 0 },
      semanticScan: SearchInfo_Explanation_SemanticScan.INDEX,
      semanticCandidates: 2,
      textCandidates: 2,
      queryTerms: ["appl"],
    });
    expect(info?.explanation?.ranking?.k).toBeUndefined();
    expect(info?.explanation?.ranking?.halfLife).toBeUndefined();
    for (const duration of [info?.explanation?.embedDuration, info?.explanation?.rankDuration]) {
      expect(duration).toMatchObject({ seconds: 0n, nanos: expect.any(Number) });
    }
    const [first] = await collect(
      client.streamSearch({ ...request, mode: SearchMode.TEXT, ranking: { k: 7 } }),
    );
    expect(first?.item.value).toMatchObject({
      explanation: {
        ranking: { k: 7 },
        semanticScan: SearchInfo_Explanation_SemanticScan.UNSPECIFIED,
        textCandidates: 2,
      },
    });
    expect((await client.search({ ...request, explain: false })).info?.explanation).toBeUndefined();
  });

  test("ranks by age, importance and diversity, and says so", async () => {
    const client = await connect();
    const domains = [useCases.domain, other];
    const ranking = {
      halfLife: { seconds: 3_600n, nanos: 500_000_000 },
      importanceWeight: 2,
      diversity: 0.25,
    };
    const { hits, info } = await client.search({ query: "apple @0", domains, ranking, explain: true });
    expect(hits).toHaveLength(2);
    for (const { parts } of hits) {
      expect(parts?.recency).toBeGreaterThan(0.9);
      expect(parts?.recency).toBeLessThanOrEqual(1);
      expect(parts?.importance).toBe(1);
    }
    expect(info?.explanation?.ranking).toMatchObject(ranking);
    const plain = await client.search({
      query: "apple @0",
      domains,
      ranking: { importanceWeight: 0, diversity: 0 },
    });
    for (const { parts } of plain.hits) {
      expect([parts?.recency, parts?.importance]).toEqual([undefined, undefined]);
    }
  });

  test("answers NotFound if one of them does not exist", async () => {
    const client = await connect();
    expect(await errorOf(client.search({ query: "x", domains: [other, "missing"] }))).toMatchObject({
      code: Code.NotFound,
      reason: "DOMAIN_NOT_FOUND",
      metadata: { domain: "missing" },
    });
  });

  test("stores an embedding of the caller's, of any length", async () => {
    const client = await connect();
    const embeddingVersion = (await useCases.repository.findDomain(useCases.domain))?.embeddingVersion ?? 0;
    const embedding = { values: [0, -3, 0], embeddingVersion };
    const near = async () => {
      const { hits } = await client.search({
        mode: SearchMode.SEMANTIC,
        queryEmbedding: embedding,
        limit: 1,
      });
      return hits.map(({ memory, parts }) => [memory?.id, parts?.similarity?.toFixed(4)]);
    };
    await client.store({ id: "own", content: "x @90", embedding });
    expect(await near()).toEqual([["own", "1.0000"]]);
    await client.update({ memory: { id: "own", content: "y @90" }, updateMask: { paths: ["content"] } });
    expect(await near()).not.toEqual([["own", "1.0000"]]);
    const update = { memory: { id: "own", content: "z @90" }, updateMask: { paths: ["content"] }, embedding };
    await client.update(update);
    expect(await near()).toEqual([["own", "1.0000"]]);
    await client.delete({ id: "own" });
    await client.batchStore({ items: [{ id: "own", content: "x @90", embedding }] });
    expect(await near()).toEqual([["own", "1.0000"]]);
    await client.delete({ id: "own" });
  });

  test("takes an embedding of the caller's, of any length", async () => {
    const client = await connect();
    const embeddingVersion = (await useCases.repository.findDomain(other))?.embeddingVersion ?? 0;
    const { hits, info } = await client.search({
      mode: SearchMode.SEMANTIC,
      queryEmbedding: { values: [250, 0, 0], embeddingVersion },
      allDomains: true,
    });
    expect(hits.map(({ memory }) => memory?.id)).toEqual(["here", "there"]);
    expect(hits[0]?.parts?.similarity).toBeCloseTo(1, 6);
    expect(info).toMatchObject({ embeddingVersion, modeUsed: SearchMode.SEMANTIC });
    const short = { values: [1, 0], embeddingVersion };
    expect(await errorOf(client.search({ query: "x", queryEmbedding: short }))).toMatchObject({
      code: Code.InvalidArgument,
      violations: [{ field: "query_embedding.values" }],
    });
  });
});
