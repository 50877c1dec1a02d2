import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, TimestampSchema, timestampDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  type Memory,
  Memory_Embedding_State,
  View,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  EmbeddingMode,
  IfExists,
  SearchInfo_DegradedReason,
  SearchInfo_TextRanker,
  SearchMode,
  SearchRequestSchema,
  StoreOutcome,
  StreamSearchRequestSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { messageOfTextRanker } from "../../../src/rpc/messages/search.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { readTextRanker } from "../../../src/storage/postgres/search/search-text.ts";
import { microsecondsFromNow, newDomainName } from "../../support/drafts.ts";
import { collect, createServiceClient, errorOf } from "../../support/in-process/service.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

// The promises of the comments in proto/, through encoding and decoding; the rules in all their cases are in
// test/memory.
describe.each(databaseEngines())("MemoryService on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let client: ReturnType<typeof createServiceClient>;

  let textRanker: SearchInfo_TextRanker;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
    textRanker = messageOfTextRanker[await readTextRanker(database)];
  });
  afterAll(() => database.close());
  beforeEach(() => {
    useCases = createUseCases(database);
    client = createServiceClient(useCases);
  });

  const soon = () => {
    const microseconds = microsecondsFromNow(3_600) + 7n;
    return create(TimestampSchema, {
      seconds: microseconds / 1_000_000n,
      nanos: Number(microseconds % 1_000_000n) * 1_000,
    });
  };

  describe("Store", () => {
    test("answers with the memory as it is stored, every field of it", async () => {
      const expireTime = soon();
      const { memory, outcome } = await client.store({
        id: "m",
        content: "apple @10",
        source: "s",
        importance: 0,
        tags: ["a"],
        metadata: { k: { n: [null, 1.5, "x"] } },
        expiry: { case: "expireTime", value: expireTime },
      });
      expect(outcome).toBe(StoreOutcome.CREATED);
      expect(memory).toMatchObject({
        id: "m",
        domain: useCases.domain,
        content: "apple @10",
        source: "s",
        importance: 0,
        tags: ["a"],
        metadata: { k: { n: [null, 1.5, "x"] } },
        expireTime,
        updateTime: memory?.createTime,
        version: 1n,
        chunkCount: 1,
        embedding: { state: Memory_Embedding_State.READY, failureReason: "" },
        preview: "",
      });
      expect(memory?.embedding?.version).toBeGreaterThan(0);
      const created = memory?.createTime && timestampDate(memory.createTime).getTime();
      expect(Math.abs((created ?? 0) - Date.now())).toBeLessThan(60_000);
    });

    test("leaves unset what was not sent", async () => {
      const { memory } = await client.store({ content: "apple" });
      expect(memory?.id).toMatch(/^mem_/);
      expect(memory).toMatchObject({ source: "", tags: [] });
      expect(memory?.importance).toBeUndefined();
      expect(memory?.expireTime).toBeUndefined();
      expect(memory?.metadata ?? {}).toEqual({});
    });

    test("takes the empty domain for the default one", async () => {
      const { memory } = await client.store({ id: "m", content: "apple" });
      expect(memory?.domain).toBe(useCases.domain);
      expect((await client.store({ id: "m", content: "apple", domain: useCases.domain })).outcome).toBe(
        StoreOutcome.UNCHANGED,
      );
    });

    test("answers CREATED, UNCHANGED, KEPT and REPLACED", async () => {
      const first = await client.store({ id: "m", content: "apple" });
      const again = await client.store({ id: "m", content: "apple" });
      expect([first.outcome, again.outcome]).toEqual([StoreOutcome.CREATED, StoreOutcome.UNCHANGED]);
      expect(again.memory).toEqual(first.memory);
      const kept = await client.store({ id: "m", content: "pear", ifExists: IfExists.KEEP });
      expect(kept).toMatchObject({ outcome: StoreOutcome.KEPT, memory: first.memory });
      const replaced = await client.store({ id: "m", content: "pear", ifExists: IfExists.REPLACE });
      expect(replaced).toMatchObject({
        outcome: StoreOutcome.REPLACED,
        memory: { content: "pear", version: 2n, createTime: first.memory?.createTime },
      });
    });

    test.each([IfExists.UNSPECIFIED, IfExists.FAIL])(
      "names the fields that differ (if_exists %d)",
      async (ifExists) => {
        await client.store({ id: "m", content: "apple" });
        const error = await errorOf(
          client.store({
            id: "m",
            content: "pear",
            tags: ["a"],
            ifExists,
            expiry: { case: "ttl", value: durationFromMs(60_000) },
          }),
        );
        expect(error).toEqual({
          code: Code.AlreadyExists,
          reason: "MEMORY_ALREADY_EXISTS",
          message: `memory "m" exists in domain "${useCases.domain}" and differs in content, tags, expiry`,
          metadata: { id: "m", domain: useCases.domain, fields: "content,tags,expiry" },
          violations: [],
          retries: false,
        });
      },
    );

    test("keeps a ttl to the microsecond and renews it by REPLACE", async () => {
      const expiry = { case: "ttl", value: { seconds: 61n, nanos: 1_999 } } as const;
      const first = await client.store({ id: "m", content: "apple", expiry });
      expect(microseconds(first.memory?.expireTime) - microseconds(first.memory?.createTime)).toBe(
        61_000_001n,
      );
      const again = await client.store({ id: "m", content: "apple", expiry });
      expect(again).toMatchObject({ outcome: StoreOutcome.UNCHANGED, memory: first.memory });
      const renewed = await client.store({ id: "m", content: "apple", expiry, ifExists: IfExists.REPLACE });
      expect(renewed.outcome).toBe(StoreOutcome.REPLACED);
      expect(microseconds(renewed.memory?.expireTime) - microseconds(renewed.memory?.updateTime)).toBe(
        61_000_001n,
      );
    });

    test("does not wait for the embedding in background mode", async () => {
      const { memory } = await client.store({ content: "apple", embeddingMode: EmbeddingMode.BACKGROUND });
      expect(memory?.embedding).toMatchObject({ state: Memory_Embedding_State.PENDING, version: 0 });
      expect(useCases.embedder.calls).toEqual([]);
    });

    test("returns the reason of a failed embedding", async () => {
      useCases.embedder.failing = () => "rejected";
      await client.store({ id: "m", content: "apple" });
      const [leased] = await useCases.repository.leasePending(useCases.domain, 1, 1, 0);
      if (leased === undefined) throw new Error("nothing was leased");
      await useCases.repository.failEmbedding(useCases.domain, leased, "the model returns NaN");
      const { memory } = await client.store({ id: "m", content: "apple" });
      expect(memory?.embedding).toMatchObject({
        state: Memory_Embedding_State.FAILED,
        failureReason: "the model returns NaN",
        version: 0,
      });
    });
  });

  describe("Search and StreamSearch", () => {
    /** Both ways of asking: hits and info. */
    const ask = async (
      request: MessageInitShape<typeof SearchRequestSchema> &
        MessageInitShape<typeof StreamSearchRequestSchema>,
    ) => {
      const { hits, info } = await client.search(request);
      const messages = await collect(client.streamSearch(request));
      const [first, last] = [messages.at(0)?.item, messages.at(-1)?.item];
      const streamed = messages.flatMap(({ item }) => (item.case === "hit" ? [item.value] : []));
      if (first?.case !== "info" || last?.case !== "summary") throw new Error("the stream lacks its ends");
      expect(messages).toHaveLength(streamed.length + 2);
      expect(last.value).toMatchObject({ sent: streamed.length, skipped: 0 });
      expect(streamed).toEqual(hits);
      expect(first.value).toEqual(info);
      return { hits, info };
    };
    const storeFruit = async () => {
      const stored: (Memory | undefined)[] = [];
      for (const [id, content] of [
        ["near", "pear @10"],
        ["both", "apple @20"],
        ["words", "an apple a day @170"],
      ] as const) {
        stored.push((await client.store({ id, content, metadata: { id } })).memory);
      }
      return stored;
    };

    test("answer with memories, scores and where they come from", async () => {
      const [near, both, words] = await storeFruit();
      const { hits, info } = await ask({ query: "apple @0", limit: 10 });
      expect(hits.map(({ memory }) => memory)).toEqual([both, words, near]);
      expect(hits[0]).toMatchObject({
        parts: { semanticRank: 2, textRank: 1 },
        chunkIndex: 0,
        snippet: { text: "apple @20", startOffset: 0, endOffset: 9 },
      });
      expect(hits[0]?.parts?.similarity).toBeCloseTo(Math.cos(Math.PI / 9), 5);
      expect(hits[0]?.parts?.textScore).toBeGreaterThan(0);
      expect(hits[2]?.parts?.textScore).toBeUndefined();
      expect(hits[2]?.parts?.textRank).toBeUndefined();
      expect(hits[2]?.parts?.recency).toBeUndefined();
      const scores = hits.map(({ score }) => score);
      expect([...scores].sort((a, b) => b - a)).toEqual(scores);
      expect(info).toMatchObject({
        modeUsed: SearchMode.HYBRID,
        degraded: false,
        degradedReason: SearchInfo_DegradedReason.UNSPECIFIED,
        approximate: false,
        limitFilled: true,
        textRanker,
        embeddingVersion: both?.embedding?.version,
        mergedByRank: false,
      });
      expect(info?.explanation).toBeUndefined();
    });

    test.each([
      [SearchMode.UNSPECIFIED, SearchMode.HYBRID, true, ["both", "words", "near"]],
      [SearchMode.SEMANTIC, SearchMode.SEMANTIC, false, ["near", "both", "words"]],
      [SearchMode.TEXT, SearchMode.TEXT, true, ["both", "words"]],
    ])("search by mode %d", async (mode, modeUsed, ranked, ids) => {
      await storeFruit();
      const { hits, info } = await ask({ query: "apple @0", mode });
      expect(hits.map(({ memory }) => memory?.id)).toEqual(ids);
      expect(info).toMatchObject({
        modeUsed,
        textRanker: ranked ? textRanker : SearchInfo_TextRanker.UNSPECIFIED,
        degraded: false,
      });
      if (mode === SearchMode.TEXT) {
        expect(info?.embeddingVersion).toBe(0);
        expect(hits[0]?.chunkIndex).toBeUndefined();
        expect(hits[0]?.parts?.similarity).toBeUndefined();
      }
    });

    test("return 5 and 100 hits by default", async () => {
      for (let i = 0; i < 110; i++) await client.store({ id: `m${i}`, content: "apple", embeddingMode: 2 });
      expect((await client.search({ query: "apple" })).hits).toHaveLength(5);
      expect(await collect(client.streamSearch({ query: "apple" }))).toHaveLength(102);
    });

    test("return a snippet instead of the content with View.SNIPPET", async () => {
      const content = `apple ${"😀".repeat(400)}`;
      await client.store({ id: "m", content, source: "s", metadata: { a: 1 } });
      const { hits } = await ask({ query: "apple @90", view: View.SNIPPET });
      const beginning = [...content].slice(0, 300).join("");
      expect(hits[0]).toMatchObject({
        memory: { content: "", preview: beginning, source: "s", metadata: { a: 1 } },
        snippet: { text: beginning, startOffset: 0, endOffset: 300 },
      });
      const full = await ask({ query: "apple @90", view: View.FULL });
      expect(full.hits[0]).toMatchObject({ memory: { content, preview: "" }, snippet: { text: beginning } });
    });

    test("say that meaning had to be left out, and why", async () => {
      await storeFruit();
      useCases.embedder.leave();
      const { hits, info } = await ask({ query: "apple @0" });
      expect(hits).toHaveLength(2);
      expect(info).toMatchObject({
        modeUsed: SearchMode.TEXT,
        degraded: true,
        degradedReason: SearchInfo_DegradedReason.EMBEDDER_UNAVAILABLE,
        embeddingVersion: 0,
      });
      const semantic = { query: "apple @0", mode: SearchMode.SEMANTIC };
      const refusal = { code: Code.Unavailable, reason: "EMBEDDER_UNAVAILABLE", retries: true };
      expect(await errorOf(client.search(semantic))).toMatchObject(refusal);
      expect(await errorOf(collect(client.streamSearch(semantic)))).toMatchObject(refusal);
      expect(await errorOf(client.search({ query: "apple @0", allowFallback: false }))).toMatchObject(
        refusal,
      );
      expect((await ask({ ...semantic, allowFallback: true })).hits).toHaveLength(2);
    });

    test("name the query that a model cannot embed", async () => {
      await storeFruit();
      useCases.embedder.failing = () => "too-long";
      const { info } = await ask({ query: "apple @0" });
      expect(info?.degradedReason).toBe(SearchInfo_DegradedReason.QUERY_NOT_EMBEDDABLE);
      expect(await errorOf(client.search({ query: "apple", mode: SearchMode.SEMANTIC }))).toMatchObject({
        code: Code.InvalidArgument,
        reason: "INVALID_ARGUMENT",
        violations: [{ field: "query" }],
        retries: false,
      });
    });

    test("do not know a domain that does not exist, and do not make it", async () => {
      const domain = newDomainName();
      const unknown = {
        code: Code.NotFound,
        reason: "DOMAIN_NOT_FOUND",
        message: `domain "${domain}" does not exist; call ListDomains to see existing domains`,
        metadata: { domain },
        retries: false,
      };
      for (const mode of [SearchMode.HYBRID, SearchMode.SEMANTIC, SearchMode.TEXT]) {
        expect(await errorOf(client.search({ query: "apple", domain, mode }))).toMatchObject(unknown);
        expect(await errorOf(collect(client.streamSearch({ query: "apple", domain, mode })))).toMatchObject(
          unknown,
        );
      }
      expect(await useCases.repository.findDomain(domain)).toBeUndefined();
    });

    test("differ where an answer does not fit into a message", async () => {
      const content = `apple ${"x".repeat(1024 * 1024 - 10)}`;
      for (let i = 0; i < 5; i++)
        await client.store({ id: `m${i}`, content, embeddingMode: EmbeddingMode.BACKGROUND });
      const request = { query: "apple", mode: SearchMode.TEXT };
      expect(await errorOf(client.search(request))).toMatchObject({
        code: Code.FailedPrecondition,
        reason: "RESPONSE_TOO_LARGE",
        metadata: { field: "view" },
      });
      expect(await collect(client.streamSearch(request))).toHaveLength(7);
      expect((await client.search({ ...request, view: View.SNIPPET })).hits).toHaveLength(5);
    });

    test("count metadata as they are sent: a number of one digit takes nine bytes and more", async () => {
      const metadata = { zeros: Array.from({ length: 30_000 }, () => 0) };
      for (let i = 0; i < 20; i++) {
        await client.store({
          id: `m${i}`,
          content: "apple",
          metadata,
          embeddingMode: EmbeddingMode.BACKGROUND,
        });
      }
      const request = { query: "apple", mode: SearchMode.TEXT, limit: 20 };
      expect(await errorOf(client.search(request))).toMatchObject({ reason: "RESPONSE_TOO_LARGE" });
      expect(await collect(client.streamSearch(request))).toHaveLength(22);
      expect((await client.search({ ...request, limit: 10 })).hits).toHaveLength(10);
    });

    test("take the same fields", () => {
      const fieldsOf = (schema: typeof SearchRequestSchema | typeof StreamSearchRequestSchema) =>
        schema.fields.map(({ name, number, proto }) => ({
          name,
          number,
          type: proto.type,
          typeName: proto.typeName,
        }));
      expect(fieldsOf(StreamSearchRequestSchema)).toEqual(fieldsOf(SearchRequestSchema));
    });
  });
});

function microseconds(time: { seconds: bigint; nanos: number } | undefined): bigint {
  if (time === undefined) throw new Error("there is no time");
  return time.seconds * 1_000_000n + BigInt(time.nanos / 1_000);
}
