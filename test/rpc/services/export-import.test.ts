import { clone, create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { StringListSchema } from "memory-service-client/memoryservice/v1/filter_pb.js";
import {
  EmbeddingVersionSchema,
  Memory_Embedding_State as State,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  type ExportRequestSchema,
  type ExportResponse,
  IfExists,
  type ImportRequest_OptionsSchema,
  ImportRequestSchema,
  ImportResponseSchema,
  MemoryService,
  ImportRequest_Options_OnError as OnError,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { importCommandFromRequests } from "../../../src/rpc/messages/import.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { startTestListener, transports } from "../../server/harness.ts";
import { newDomainName } from "../../support/drafts.ts";
import {
  collect,
  createServiceClient,
  errorOf,
  memoryServiceRoutes,
} from "../../support/in-process/service.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

type Client = ReturnType<typeof createServiceClient>;
type Options = MessageInitShape<typeof ImportRequest_OptionsSchema>;
type ImportMessage = MessageInitShape<typeof ImportRequestSchema>;
type Record = Extract<
  NonNullable<Extract<ImportMessage, { item?: unknown }>["item"]>,
  { case: "record" }
>["value"];

describe.each(databaseEngines())("Export and Import on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let client: Client;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
  });
  afterAll(() => database.close());
  beforeEach(() => {
    useCases = createUseCases(database);
    client = createServiceClient(useCases);
  });

  /** What every import must survive: chunks, times, labels, an end, two versions. */
  async function fill(domain: string): Promise<void> {
    await client.store({
      domain,
      id: "full",
      content: "apple @10",
      source: "s",
      importance: 0.1,
      tags: ["b", "a"],
      metadata: { k: [1, null, { deep: "ü" }] },
      expiry: { case: "ttl", value: durationFromMs(3_600_000) },
    });
    await client.store({ domain, id: "long", content: `pear @20 ${"word ".repeat(500)}😀 @30` });
    await client.store({ domain, id: "changed", content: "plum @40" });
    await client.update({
      memory: { domain, id: "changed", source: "new" },
      updateMask: { paths: ["source"] },
    });
  }

  test.each([true, false])(
    "an export that is imported is exported equally (embeddings: %s)",
    async (include) => {
      await fill(useCases.domain);
      const [first, ...exported] = await collect(client.export({ includeEmbeddings: include }));
      expect(first?.item.case).toBe("header");
      expect(exported.map(({ item }) => item.case)).toEqual(["record", "record", "record", "summary"]);
      expect(exported.at(-1)?.item.value).toMatchObject({ records: 3n });
      const records = recordsOf(exported);
      expect(records.map(({ memory }) => memory?.id)).toEqual(["full", "long", "changed"]);
      expect(records.map(({ chunks }) => chunks.length > 0)).toEqual([include, include, include]);

      const options = { domain: newDomainName(), embeddingVersion: headerOf(first).embeddingVersion };
      const report = await client.import(messages(options, records));
      expect(report).toMatchObject({ received: 3n, created: 3n, rejected: 0n, stopped: false });

      const again = recordsOf(
        await collect(client.export({ domain: options.domain, includeEmbeddings: include })),
      );
      for (const { memory } of records) {
        if (memory === undefined) continue;
        memory.domain = options.domain;
        // Import re-embeds records without embeddings.
        if (!include) memory.embedding = again[0]?.memory?.embedding;
      }
      expect(again).toEqual(records);
      expect(again[0]?.memory?.embedding?.state).toBe(include ? State.READY : State.PENDING);
      expect(useCases.notified.includes(options.domain)).toBe(!include);

      const repeated = await client.import(messages(options, records));
      expect(repeated).toMatchObject({ received: 3n, unchanged: 3n });
      if (include) {
        const { hits } = await client.search({ domain: options.domain, query: "@30", limit: 1 });
        expect(hits[0]).toMatchObject({ memory: { id: "long" }, parts: { semanticRank: 1 } });
        expect(hits[0]?.chunkIndex).toBeGreaterThan(0);
      }
    },
  );

  test("embeddings are taken over only if everything about them is the same", async () => {
    await client.store({ id: "m", content: "apple @10" });
    const [first, ...rest] = await collect(client.export({ includeEmbeddings: true }));
    const records = recordsOf(rest);
    const embeddings = headerOf(first).embeddingVersion;
    expect(embeddings).toMatchObject({ model: "scripted:latest", dimensions: 3, chunker: "paragraphs/1" });
    const others = [
      undefined,
      { model: "other" },
      { modelDigest: "2" },
      { profile: "plain/2" },
      { chunker: "paragraphs/2" },
      { chunker: "words/1" },
      { version: 1_000 },
    ];
    for (const other of others) {
      const embeddingVersion = other && {
        ...clone(EmbeddingVersionSchema, embeddings ?? create(EmbeddingVersionSchema)),
        ...other,
      };
      const domain = newDomainName();
      await client.import(messages({ domain, ...(embeddingVersion && { embeddingVersion }) }, records));
      const { memory } = await client.get({ domain, id: "m" });
      expect(memory?.embedding?.state).toBe(State.PENDING);
      expect(useCases.notified).toContain(domain);
    }
  });

  test("resumes at a cursor, but only with the same export request", async () => {
    for (const id of ["a", "b", "c"]) await client.store({ id, content: `apple ${id} @10`, source: id });
    const all = await collect(client.export({}));
    const cursor = all[2]?.cursor ?? "";
    const rest = await collect(client.export({ cursor }));
    expect(rest.map(({ item }) => item.case)).toEqual(["header", "record", "summary"]);
    expect(rest[1]).toEqual(all[3]);
    expect(await collect(client.export({ cursor: all[3]?.cursor ?? "" }))).toHaveLength(2);

    await client.store({ domain: newDomainName(), content: "other" });
    const page = await client.list({ pageSize: 1 });
    const foreign: readonly MessageInitShape<typeof ExportRequestSchema>[] = [
      { cursor: `${cursor.slice(0, -1)}${cursor.endsWith("A") ? "B" : "A"}` },
      { cursor: "nonsense" },
      { cursor, includeEmbeddings: true },
      {
        cursor,
        filter: { condition: { case: "sources", value: create(StringListSchema, { values: ["a"] }) } },
      },
      { cursor: page.nextPageToken },
    ];
    for (const request of foreign) {
      const error = await errorOf(collect(client.export(request)));
      expect(error).toMatchObject({
        code: Code.InvalidArgument,
        reason: "INVALID_PAGE_TOKEN",
        violations: [{ field: "cursor" }],
      });
    }
    const missing = await errorOf(collect(client.export({ domain: "missing" })));
    expect(missing).toMatchObject({ code: Code.NotFound, reason: "DOMAIN_NOT_FOUND" });
  });

  test("a filter chooses, and what has expired is left out", async () => {
    for (const id of ["a", "b"]) await client.store({ id, content: `apple ${id} @10`, source: id });
    const found = await collect(
      client.export({
        filter: { condition: { case: "sources", value: create(StringListSchema, { values: ["b"] }) } },
      }),
    );
    expect(recordsOf(found).map(({ memory }) => memory?.id)).toEqual(["b"]);
    const report = await client.import(
      messages({}, [
        { memory: { id: "gone", content: "x", expireTime: timestampFromMs(Date.now() - 1_000) } },
      ]),
    );
    expect(report).toMatchObject({ received: 1n, expired: 1n, created: 0n });
    expect(await errorOf(client.get({ id: "gone" }))).toMatchObject({ code: Code.NotFound });
  });

  test("exports what exists throughout exactly once, while others are stored and deleted", async () => {
    const ids = Array.from({ length: 1_200 }, (_, n) => `m${String(n).padStart(4, "0")}`);
    await client.import(
      messages(
        {},
        ids.map((id, n) => record(id, { createTime: timestampFromMs(n) })),
      ),
    );
    const seen: string[] = [];
    for await (const { item } of client.export({})) {
      if (item.case !== "record") continue;
      const id = item.value.memory?.id ?? "";
      seen.push(id);
      if (seen.length % 100 !== 50) continue;
      await client.delete({ id, allowMissing: true });
      await client.import(
        messages({}, [record(`new${seen.length}`, { createTime: timestampFromMs(seen.length) })]),
      );
    }
    expect(seen.filter((id) => id.startsWith("m"))).toEqual(ids);
    expect(new Set(seen).size).toBe(seen.length);
  });

  describe("records that meet others", () => {
    const time = timestampFromMs(1_600_000_000_000);
    const fields = { createTime: time, updateTime: time, version: 7n };

    test("take over times and version, or get new ones", async () => {
      await client.import(messages({}, [record("old", fields), record("new", {})]));
      expect((await client.get({ id: "old" })).memory).toMatchObject(fields);
      const { memory } = await client.get({ id: "new" });
      expect(memory).toMatchObject({ version: 1n, updateTime: memory?.createTime });
      expect(Number(memory?.createTime?.seconds)).toBeGreaterThan(1_700_000_000);
    });

    test("one that differs only in its version differs", async () => {
      const import_ = (ifExists: IfExists, version: bigint, onError = OnError.CONTINUE) =>
        client.import(messages({ ifExists, onError }, [record("m", { ...fields, version })]));
      await import_(IfExists.FAIL, 7n);
      expect(await import_(IfExists.FAIL, 7n)).toMatchObject({ unchanged: 1n });
      expect(await import_(IfExists.KEEP, 8n)).toMatchObject({ kept: 1n, unchanged: 0n });
      const failed = await import_(IfExists.FAIL, 8n);
      expect(failed).toMatchObject({ received: 1n, rejected: 1n, stopped: false });
      expect(failed.rejections).toMatchObject([
        { index: 0n, id: "m", error: { code: Code.AlreadyExists, metadata: { fields: "version" } } },
      ]);
      expect((await client.get({ id: "m" })).memory?.version).toBe(7n);
      expect(await import_(IfExists.REPLACE, 3n)).toMatchObject({ replaced: 1n });
      expect((await client.get({ id: "m" })).memory).toMatchObject({ ...fields, version: 3n });
      expect(await import_(IfExists.REPLACE, 0n)).toMatchObject({ unchanged: 1n });
    });

    test("replacing keeps the embedding of equal content, and changes that of another", async () => {
      await client.store({ id: "m", content: "apple @10" });
      const options = { ifExists: IfExists.REPLACE };
      await client.import(messages(options, [{ memory: { id: "m", content: "apple @10", source: "s" } }]));
      expect((await client.get({ id: "m" })).memory).toMatchObject({
        source: "s",
        version: 2n,
        embedding: { state: State.READY },
      });
      await client.import(messages(options, [{ memory: { id: "m", content: "pear @20", source: "s" } }]));
      expect((await client.get({ id: "m" })).memory?.embedding?.state).toBe(State.PENDING);
    });

    test("the same id twice: the second finds the first", async () => {
      const same = [record("m", fields), record("m", fields), record("m", { ...fields, version: 8n })];
      expect(await client.import(messages({ ifExists: IfExists.KEEP }, same))).toMatchObject({
        created: 1n,
        unchanged: 1n,
        kept: 1n,
      });
    });

    test("a domain that deduplicates has each content once", async () => {
      const domain = newDomainName();
      await useCases.repository.createDomain(domain, 3, {
        settings: { ...(await settings()), deduplicateContent: true },
      });
      const both = [record("a", fields, "same"), record("b", fields, "same"), record("c", fields, "other")];
      expect(await client.import(messages({ domain }, both))).toMatchObject({ created: 2n, duplicates: 1n });
      expect(await client.import(messages({ domain }, both))).toMatchObject({
        unchanged: 2n,
        duplicates: 1n,
      });
    });

    async function settings() {
      await client.store({ content: "creates the domain" });
      const domain = await useCases.repository.readDomain(useCases.domain);
      if (domain === undefined) throw new Error("no domain");
      return domain;
    }
  });

  describe("records that cannot be stored", () => {
    const bad = record("bad", {}, "\0");

    test("stop the import where they are: what came before is stored", async () => {
      await client.store({ id: "taken", content: "something else" });
      for (const stopper of [bad, record("taken", {})]) {
        const records = [record("before", {}), stopper, record("after", {})];
        const report = await client.import(messages({}, records));
        expect(report).toMatchObject({ received: 2n, rejected: 1n, stopped: true });
        expect(report.rejections).toMatchObject([{ index: 1n, id: stopper.memory.id }]);
        expect((await client.get({ id: "before" })).memory?.content).toBe("content of before");
        expect(await errorOf(client.get({ id: "after" }))).toMatchObject({ code: Code.NotFound });
      }
    });

    test("of two, the first stops the import", async () => {
      await client.store({ id: "taken", content: "something else" });
      const records = [record("before", {}), record("taken", {}), record("middle", {}), bad];
      const report = await client.import(messages({}, records));
      expect(report).toMatchObject({ received: 2n, created: 1n, rejected: 1n, stopped: true });
      expect(report.rejections).toMatchObject([{ index: 1n, id: "taken" }]);
      expect(await errorOf(client.get({ id: "middle" }))).toMatchObject({ code: Code.NotFound });
    });

    test("are skipped and reported in order with OnError.CONTINUE", async () => {
      await client.store({ id: "taken", content: "something else" });
      const records = [bad, record("one", {}), record("taken", {}), bad, record("two", {})];
      const report = await client.import(messages({ onError: OnError.CONTINUE }, records));
      expect(report).toMatchObject({ received: 5n, created: 2n, rejected: 3n, stopped: false });
      expect(report.rejections.map(({ index, id }) => [index, id])).toEqual([
        [0n, "bad"],
        [2n, "taken"],
        [3n, "bad"],
      ]);
    });

    test("are all counted, and the first 1,000 are reported in less than 4 MiB", async () => {
      const records = Array.from({ length: 1_100 }, () => ({
        memory: {
          id: "\0".repeat(10_000),
          domain: "\u0001".repeat(10_000),
          content: "\0",
          source: "\0",
          tags: ["\0"],
          importance: Number.NaN,
          version: -1n,
          metadata: { source: 1 },
        },
      }));
      const report = await client.import(messages({ onError: OnError.CONTINUE }, records));
      expect(report).toMatchObject({ received: 1_100n, rejected: 1_100n });
      expect(report.rejections).toHaveLength(1_000);
      expect(report.rejections[0]?.error?.fieldViolations).toHaveLength(8);
      expect(toBinary(ImportResponseSchema, report).length).toBeLessThan(4 * 1024 * 1024);
    });

    const ready = { id: "m", content: "x", embedding: { state: State.READY, version: 7 } };
    const chunk = { chunkIndex: 0, startOffset: 0, endOffset: 1, embedding: floats(1, 0, 0) };
    const rows: readonly (readonly [name: string, record: Record, field: string])[] = [
      ["no memory", {}, "record.memory"],
      ["no id", { memory: { content: "x" } }, "record.memory.id"],
      ["an id too long for its column", { memory: { id: "i".repeat(51), content: "x" } }, "record.memory.id"],
      ["NUL in content", { memory: { id: "m", content: "a\0b" } }, "record.memory.content"],
      ["NUL in an id", { memory: { id: "a\0b", content: "x" } }, "record.memory.id"],
      ["NUL in the source", { memory: { id: "m", content: "x", source: "\0" } }, "record.memory.source"],
      ["NUL in a tag", { memory: { id: "m", content: "x", tags: ["a", "\0"] } }, "record.memory.tags"],
      [
        "NUL in metadata",
        { memory: { id: "m", content: "x", metadata: { k: ["\0"] } } },
        "record.memory.metadata",
      ],
      [
        "NUL in a key",
        { memory: { id: "m", content: "x", metadata: { "\0": 1 } } },
        "record.memory.metadata",
      ],
      [
        "a reserved key",
        { memory: { id: "m", content: "x", metadata: { tags: 1 } } },
        "record.memory.metadata",
      ],
      [
        "importance NaN",
        { memory: { id: "m", content: "x", importance: Number.NaN } },
        "record.memory.importance",
      ],
      ["a negative version", { memory: { id: "m", content: "x", version: -1n } }, "record.memory.version"],
      [
        "the largest version",
        { memory: { id: "m", content: "x", version: 2n ** 63n - 1n } },
        "record.memory.version",
      ],
      ["a bad domain", { memory: { id: "m", content: "x", domain: "Bad" } }, "record.memory.domain"],
      [
        "a time after the year 9999",
        { memory: { id: "m", content: "x", createTime: { seconds: 2n ** 62n, nanos: 0 } } },
        "record.memory.create_time",
      ],
      [
        "nanos that are none",
        { memory: { id: "m", content: "x", expireTime: { seconds: 9_000_000_000n, nanos: -1 } } },
        "record.memory.expire_time",
      ],
      [
        "too short a vector",
        { memory: ready, chunks: [{ ...chunk, embedding: floats(1, 0) }] },
        "record.chunks[0].embedding",
      ],
      [
        "half a number",
        { memory: ready, chunks: [{ ...chunk, embedding: new Uint8Array(11) }] },
        "record.chunks[0].embedding",
      ],
      [
        "a vector of 0",
        { memory: ready, chunks: [{ ...chunk, embedding: floats(0, 0, 0) }] },
        "record.chunks[0].embedding",
      ],
      [
        "NaN in a vector",
        { memory: ready, chunks: [{ ...chunk, embedding: floats(1, Number.NaN, 0) }] },
        "record.chunks[0].embedding",
      ],
      ["a chunk out of order", { memory: ready, chunks: [chunk, chunk] }, "record.chunks[1].chunk_index"],
      [
        "a chunk before the content",
        { memory: ready, chunks: [{ ...chunk, startOffset: -1 }] },
        "record.chunks[0].start_offset",
      ],
      [
        "an empty chunk",
        { memory: ready, chunks: [{ ...chunk, endOffset: 0 }] },
        "record.chunks[0].end_offset",
      ],
    ];

    test.each(rows)("%s is a rejection that names its field", async (_name, one, field) => {
      const embeddingVersion = { version: 7, model: "scripted:latest", dimensions: 3 };
      const report = await client.import(messages({ embeddingVersion }, [one]));
      expect(report).toMatchObject({ received: 1n, rejected: 1n, stopped: true });
      expect(report.rejections[0]?.error).toMatchObject({
        code: Code.InvalidArgument,
        fieldViolations: [{ field }],
      });
    });

    test("half a surrogate pair is named", async () => {
      const half = create(ImportRequestSchema, {
        item: { case: "record", value: record("m", {}, "a\ud800") },
      });
      const options = create(ImportRequestSchema, { item: { case: "options", value: {} } });
      const { records } = await importCommandFromRequests(
        streamOf([options, half]),
        "default",
        () => undefined,
      );
      const [rejected] = await collect(records);
      expect(rejected).toMatchObject({ error: { violations: [{ field: "record.memory.content" }] } });
    });

    test("what Store would refuse for its size is taken", async () => {
      const large = {
        memory: {
          id: "not an id of Store!",
          content: " ",
          source: "s".repeat(300),
          importance: 17,
          tags: Array.from({ length: 100 }, (_, n) => `tag ${n}`.padEnd(100)),
          metadata: { k: "x".repeat(100_000) },
        },
      };
      expect(await client.import(messages({}, [large]))).toMatchObject({ created: 1n });
      const [, exported] = await collect(client.export({}));
      expect(exported?.item.value).toMatchObject(large);
      expect(await client.import(messages({}, [large]))).toMatchObject({ unchanged: 1n });
    });
  });

  const misuses: readonly (readonly [name: string, messages: readonly ImportMessage[], field: string])[] = [
    ["nothing at all", [], "options"],
    ["a record first", [{ item: { case: "record", value: record("m", {}) } }], "options"],
    [
      "options twice",
      [{ item: { case: "options", value: {} } }, { item: { case: "options", value: {} } }],
      "options",
    ],
    ["an empty message", [{ item: { case: "options", value: {} } }, {}], "item"],
    ["a bad domain", [{ item: { case: "options", value: { domain: "Bad" } } }], "options.domain"],
    [
      "an unknown if_exists",
      [{ item: { case: "options", value: { ifExists: unknownNumber() } } }],
      "options.if_exists",
    ],
    [
      "an unknown on_error",
      [{ item: { case: "options", value: { onError: unknownNumber() } } }],
      "options.on_error",
    ],
  ];
  test.each(misuses)("Import with %s is InvalidArgument", async (_name, sent, field) => {
    const error = await errorOf(client.import(streamOf(sent)));
    expect(error).toMatchObject({ code: Code.InvalidArgument, violations: [{ field }] });
  });

  test("rejects only the records whose domain may not be created", async () => {
    const strict = createServiceClient(createUseCases(database, { createDomains: false }));
    await client.store({ domain: "there", content: "x" });
    const records = [record("a", { domain: "missing" }), record("b", { domain: "there" })];
    const report = await strict.import(messages({ onError: OnError.CONTINUE }, records));
    expect(report).toMatchObject({ received: 2n, created: 1n, rejected: 1n });
    expect(report.rejections[0]).toMatchObject({ index: 0n, error: { code: Code.NotFound } });
  });

  test.each(["gRPC over HTTP/2", "Connect over HTTP/2", "Connect over HTTP/1.1"])("over %s", async (name) => {
    const listener = await startTestListener(memoryServiceRoutes(useCases));
    const transport = transports[name]?.(listener.url);
    if (transport === undefined) throw new Error("no such transport");
    const remote = createClient(MemoryService, transport);

    const ids = Array.from({ length: 1_100 }, (_, n) => `m${n}`);
    const large = "word ".repeat(1_000);
    const report = await remote.import(
      messages(
        {},
        ids.map((id) => record(id, {}, `${id} ${"word ".repeat(50)}`)),
      ),
    );
    expect(report).toMatchObject({ received: 1_100n, created: 1_100n });
    const exported = await collect(remote.export({}));
    expect(new Set(recordsOf(exported).map(({ memory }) => memory?.id))).toEqual(new Set(ids));

    // The client still has much to send when the server has seen enough; HTTP/1.1 waits seconds for it.
    if (name.endsWith("HTTP/1.1")) return;
    const many = [record("bad", {}, "\0"), ...ids.map((id) => record(id, {}, large))];
    expect(await remote.import(messages({}, many))).toMatchObject({ received: 1n, stopped: true });

    // A caller that leaves ends its import.
    const controller = new AbortController();
    const endless = async function* (): AsyncGenerator<ImportMessage> {
      yield { item: { case: "options", value: {} } };
      yield { item: { case: "record", value: record("last", {}) } };
      controller.abort();
      await new Promise(() => {});
    };
    const error = await errorOf(remote.import(endless(), { signal: controller.signal }));
    expect(error.code).toBe(Code.Canceled);
  });
});

function record(id: string, fields: object, content = `content of ${id}`) {
  return { memory: { id, content, ...fields } };
}

function floats(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

/** proto3 enums are open: any number arrives. */
function unknownNumber(): number {
  return 99;
}

async function* streamOf<T>(values: readonly T[]): AsyncGenerator<T> {
  yield* values;
}

function messages(options: Options, records: readonly Record[]): AsyncIterable<ImportMessage> {
  return streamOf<ImportMessage>([
    { item: { case: "options", value: options } },
    ...records.map((value): ImportMessage => ({ item: { case: "record", value } })),
  ]);
}

function recordsOf(exported: readonly ExportResponse[]) {
  return exported.flatMap(({ item }) => (item.case === "record" ? [item.value] : []));
}

function headerOf(response: ExportResponse | undefined) {
  if (response?.item.case !== "header") throw new Error("no header");
  return response.item.value;
}
