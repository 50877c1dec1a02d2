import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { ErrorReason } from "memory-service-client/memoryservice/v1/error_reason_pb.js";
import { FilterSchema } from "memory-service-client/memoryservice/v1/filter_pb.js";
import { Memory_Embedding_State, View } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  EmbeddingMode,
  IfExists,
  type ListRequest,
  type ListRequestSchema,
  MemoryService,
  UpdateRequest_MetadataMode as MetadataMode,
  ListRequest_OrderBy as OrderBy,
  StoreOutcome,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../../../src/storage/database/database.ts";
import { startTestListener, transports } from "../../server/harness.ts";
import { newDomainName } from "../../support/drafts.ts";
import { createServiceClient, errorOf, memoryServiceRoutes } from "../../support/in-process/service.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

// The promises of the comments in proto/, through encoding and decoding; the rules in all their cases are in
// test/memory.
describe.each(databaseEngines())("MemoryService on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let client: ReturnType<typeof createServiceClient>;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
  });
  afterAll(() => database.close());
  beforeEach(() => {
    useCases = createUseCases(database);
    client = createServiceClient(useCases);
  });

  const missing = (id: string) => ({
    code: Code.NotFound,
    reason: "MEMORY_NOT_FOUND",
    message: `memory "${id}" does not exist in domain "${useCases.domain}"`,
    metadata: { id, domain: useCases.domain },
  });
  const stale = {
    code: Code.Aborted,
    reason: "VERSION_MISMATCH",
    metadata: { id: "m", expected_version: "7", current_version: "1" },
    retries: false,
  };

  test("Get answers with the memory as Store did", async () => {
    const { memory } = await client.store({ id: "m", content: "apple", metadata: { k: [1, null] } });
    expect((await client.get({ id: "m" })).memory).toEqual(memory);
    expect((await client.get({ id: "m", domain: useCases.domain })).memory).toEqual(memory);
    expect(await errorOf(client.get({ id: "other" }))).toMatchObject(missing("other"));
  });

  test("Update changes what the mask names, and ignores all else", async () => {
    const { memory } = await client.store({
      id: "m",
      content: "apple",
      source: "s",
      importance: 0.5,
      tags: ["a"],
      metadata: { a: 1 },
      expiry: { case: "ttl", value: durationFromMs(3_600_000) },
    });
    const updated = await client.update({
      memory: { id: "m", content: "\0", source: "new", tags: ["b", "b"], version: 99n, importance: 17 },
      updateMask: { paths: ["source", "tags", "source"] },
    });
    expect(updated.memory).toEqual({
      ...memory,
      source: "new",
      tags: ["b"],
      version: 2n,
      updateTime: updated.memory?.updateTime,
    });
    const cleared = await client.update({
      memory: { id: "m" },
      updateMask: { paths: ["source", "tags", "importance", "metadata", "expire_time"] },
      metadataMode: MetadataMode.REPLACE,
      expectedVersion: 2n,
    });
    expect(cleared.memory).toMatchObject({ content: "apple", source: "", tags: [], version: 3n });
    expect(cleared.memory?.importance).toBeUndefined();
    expect(cleared.memory?.metadata).toBeUndefined();
    expect(cleared.memory?.expireTime).toBeUndefined();
    expect((await client.get({ id: "m" })).memory).toEqual(cleared.memory);
  });

  test("Update merges metadata, or replaces them", async () => {
    await client.store({ id: "m", content: "apple", metadata: { a: 1, b: 2 } });
    const update = async (metadata: Record<string, number | null>, metadataMode: MetadataMode) =>
      (
        await client.update({
          memory: { id: "m", metadata },
          updateMask: { paths: ["metadata"] },
          metadataMode,
        })
      ).memory?.metadata;
    expect(await update({ b: null, c: 3 }, MetadataMode.MERGE)).toEqual({ a: 1, c: 3 });
    expect(await update({ d: null }, MetadataMode.REPLACE)).toEqual({ d: null });
  });

  test("Update embeds changed content, or leaves that for later", async () => {
    await client.store({ id: "m", content: "apple @10" });
    const update = (content: string, embeddingMode: EmbeddingMode) =>
      client.update({ memory: { id: "m", content }, updateMask: { paths: ["content"] }, embeddingMode });
    expect((await update("pear @20", EmbeddingMode.UNSPECIFIED)).memory).toMatchObject({
      content: "pear @20",
      embedding: { state: Memory_Embedding_State.READY },
    });
    expect((await update("fig @30", EmbeddingMode.BACKGROUND)).memory).toMatchObject({
      content: "fig @30",
      embedding: { state: Memory_Embedding_State.PENDING },
    });
  });

  test("Update renews a ttl with an empty mask, and takes a time to the microsecond", async () => {
    await client.store({ id: "m", content: "apple" });
    const renewed = await client.update({ memory: { id: "m" }, ttl: { seconds: 61n, nanos: 1_999 } });
    const { updateTime, expireTime } = renewed.memory ?? {};
    const micros = (at?: { seconds: bigint; nanos: number }) =>
      (at?.seconds ?? 0n) * 1_000_000n + BigInt((at?.nanos ?? 0) / 1_000);
    expect(micros(expireTime) - micros(updateTime)).toBe(61_000_001n);

    const end = create(TimestampSchema, {
      seconds: BigInt(Math.floor(Date.now() / 1_000)) + 60n,
      nanos: 7_000,
    });
    const timed = await client.update({
      memory: { id: "m", expireTime: end },
      updateMask: { paths: ["expire_time"] },
    });
    expect(timed.memory?.expireTime).toEqual(end);
  });

  test("Update reports a missing memory and a stale version", async () => {
    await client.store({ id: "m", content: "apple" });
    const update = (id: string, expectedVersion: bigint | undefined) =>
      client.update({
        memory: { id, source: "new" },
        updateMask: { paths: ["source"] },
        ...(expectedVersion === undefined ? {} : { expectedVersion }),
      });
    expect(await errorOf(update("other", undefined))).toMatchObject(missing("other"));
    expect(await errorOf(update("m", 7n))).toMatchObject({
      ...stale,
      message: `memory "m" in domain "${useCases.domain}" is at version 1, not 7`,
    });
  });

  test("BatchStore answers for each item in its order, without content and metadata", async () => {
    const { memory } = await client.store({ id: "taken", content: "apple" });
    const { results } = await client.batchStore({
      items: [
        { id: "b", content: "pear", source: "s", tags: ["t"], metadata: { k: 1 } },
        { id: "taken", content: "fig" },
        { id: "bad/id", content: "", importance: 2 },
        { id: "b", content: "pear" },
        { id: "b", content: "pear", domain: newDomainName() },
        { id: "taken", content: "apple", domain: useCases.domain },
      ],
    });
    const found = (await client.get({ id: "b" })).memory;
    expect(results.map(({ result }) => result)).toMatchObject([
      {
        case: "success",
        value: {
          memory: { id: "b", content: "", source: "s", tags: ["t"], updateTime: found?.updateTime },
          outcome: StoreOutcome.CREATED,
        },
      },
      {
        case: "error",
        value: {
          code: Code.AlreadyExists,
          reason: ErrorReason.MEMORY_ALREADY_EXISTS,
          metadata: { id: "taken", domain: useCases.domain, fields: "content" },
          fieldViolations: [],
        },
      },
      {
        case: "error",
        value: {
          code: Code.InvalidArgument,
          reason: ErrorReason.INVALID_ARGUMENT,
          fieldViolations: [
            { field: "items[2].content", description: "must not be empty" },
            { field: "items[2].importance", description: "must be from 0 to 1, got 2" },
            { field: "items[2].id" },
          ],
        },
      },
      {
        case: "error",
        value: {
          fieldViolations: [
            { field: "items[3].id", description: "must differ from items[0].id in the same domain" },
          ],
        },
      },
      { case: "success", value: { outcome: StoreOutcome.CREATED } },
      { case: "error", value: { fieldViolations: [{ field: "items[5].id" }] } },
    ]);
    const [first] = results;
    expect(first?.result.case === "success" && first.result.value.memory?.metadata).toBeUndefined();
    expect(found?.metadata).toEqual({ k: 1 });
    expect((await client.get({ id: "taken" })).memory).toEqual(memory);
  });

  test("BatchStore that is atomic names all violations and stores nothing", async () => {
    const items = [
      { id: "a", content: "apple" },
      { content: "" },
      { id: "a", content: "pear", importance: 2 },
    ];
    const error = await errorOf(client.batchStore({ items, atomic: true }));
    expect(error).toMatchObject({ code: Code.InvalidArgument, reason: "INVALID_ARGUMENT" });
    expect(error.violations.map(({ field }) => field)).toEqual([
      "items[1].content",
      "items[2].id",
      "items[2].importance",
    ]);
    expect(await errorOf(client.get({ id: "a" }))).toMatchObject({ code: Code.NotFound });

    await client.store({ id: "b", content: "apple" });
    const batch = [
      { id: "a", content: "apple" },
      { id: "b", content: "pear" },
    ];
    expect(await errorOf(client.batchStore({ items: batch, atomic: true }))).toMatchObject({
      code: Code.AlreadyExists,
      reason: "MEMORY_ALREADY_EXISTS",
      message: expect.stringMatching(/^items\[1\]: memory "b" exists/),
    });
    expect(await errorOf(client.get({ id: "a" }))).toMatchObject({ code: Code.NotFound });
  });

  test("BatchStore of the most that a message takes is answered", async () => {
    const tags = Array.from({ length: 64 }, (_, i) => `${i}`.padEnd(64, "t"));
    const items = Array.from({ length: 940 }, (_, i) => ({ id: `m${i}`, content: "x", tags }));
    const background = { embeddingMode: EmbeddingMode.BACKGROUND, ifExists: IfExists.KEEP };
    for (const part of [items.slice(0, 470), items.slice(470)]) {
      await client.batchStore({ items: part.map((item) => ({ ...item, ...background })) });
    }
    const { results } = await client.batchStore({
      items: items.map(({ id }) => ({ id, content: "y".repeat(4_000), ...background })),
    });
    const kept = results.flatMap(({ result }) => (result.case === "success" ? [result.value] : []));
    expect(kept).toHaveLength(940);
    expect(kept.every(({ outcome }) => outcome === StoreOutcome.KEPT)).toBe(true);
    expect(kept[0]?.memory?.tags).toEqual(tags);
    expect(kept.at(-1)?.memory).toMatchObject({ id: "m939", tags: [], version: 1n });
  });

  test("List turns pages in the order asked for, by a token", async () => {
    for (let i = 0; i < 5; i++)
      await client.store({ id: `m${i}`, content: `apple ${i}`, tags: [`t${i % 2}`] });
    await client.update({ memory: { id: "m1", source: "new" }, updateMask: { paths: ["source"] } });
    const listAll = async (request: Exclude<MessageInitShape<typeof ListRequestSchema>, ListRequest>) => {
      const ids: string[] = [];
      let pageToken = "";
      do {
        const page = await client.list({ ...request, pageToken });
        ids.push(...page.memories.map(({ id }) => id));
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      return ids;
    };
    const newest = ["m4", "m3", "m2", "m1", "m0"];
    expect(await listAll({ pageSize: 2 })).toEqual(newest);
    expect(await listAll({ orderBy: OrderBy.CREATE_TIME_DESC })).toEqual(newest);
    expect(await listAll({ orderBy: OrderBy.CREATE_TIME_ASC, pageSize: 1 })).toEqual(newest.toReversed());
    expect(await listAll({ orderBy: OrderBy.UPDATE_TIME_DESC })).toEqual(["m1", "m4", "m3", "m2", "m0"]);
    expect(await listAll({ orderBy: OrderBy.UPDATE_TIME_ASC })).toEqual(["m0", "m2", "m3", "m4", "m1"]);
    const filter = create(FilterSchema, { condition: { case: "tagsAny", value: { values: ["t0"] } } });
    expect(await listAll({ filter, pageSize: 1 })).toEqual(["m4", "m2", "m0"]);
  });

  test("List answers as Get does, or with the beginning of contents", async () => {
    const { memory } = await client.store({ id: "m", content: "é".repeat(400), metadata: { k: 1 } });
    expect((await client.list({})).memories).toEqual([memory]);
    expect((await client.list({ view: View.SNIPPET })).memories).toEqual([
      { ...memory, content: "", preview: "é".repeat(300) },
    ]);
  });

  test("List refuses the token of another list", async () => {
    for (const id of ["a", "b", "c"]) await client.store({ id, content: id });
    const { nextPageToken } = await client.list({ pageSize: 2 });
    const filter = create(FilterSchema, { condition: { case: "sources", value: { values: [""] } } });
    const others: Exclude<MessageInitShape<typeof ListRequestSchema>, ListRequest>[] = [
      { pageToken: `${nextPageToken}x` },
      { pageToken: nextPageToken, orderBy: OrderBy.CREATE_TIME_ASC },
      { pageToken: nextPageToken, filter },
    ];
    for (const request of others) {
      expect(await errorOf(client.list(request))).toMatchObject({
        code: Code.InvalidArgument,
        reason: "INVALID_PAGE_TOKEN",
        violations: [{ field: "page_token" }],
      });
    }
    expect((await client.list({ pageToken: nextPageToken, pageSize: 7 })).memories).toMatchObject([
      { id: "a" },
    ]);
  });

  test("RetryFailed returns the number of memories it set to pending", async () => {
    await client.store({ id: "a", content: "apple", embeddingMode: EmbeddingMode.BACKGROUND });
    await client.store({ id: "b", content: "apple", embeddingMode: EmbeddingMode.BACKGROUND });
    await database.execute(`update "${useCases.domain}_memories" set embedding_state = 'failed'`);
    const filter = create(FilterSchema, { condition: { case: "ids", value: { values: ["a"] } } });
    expect((await client.retryFailed({ filter })).retried).toBe(1n);
    expect((await client.retryFailed({})).retried).toBe(1n);
    expect((await client.retryFailed({})).retried).toBe(0n);
  });

  test("Delete returns whether it deleted the memory", async () => {
    await client.store({ id: "m", content: "apple" });
    expect(await errorOf(client.delete({ id: "m", expectedVersion: 7n }))).toMatchObject(stale);
    expect((await client.delete({ id: "m", expectedVersion: 1n })).deleted).toBe(true);
    expect((await client.delete({ id: "m", allowMissing: true })).deleted).toBe(false);
    expect(await errorOf(client.delete({ id: "m" }))).toMatchObject(missing("m"));
  });

  test("all of them report a missing domain and do not create it", async () => {
    const domain = newDomainName();
    const calls = [
      client.get({ domain, id: "m" }),
      client.list({ domain }),
      client.retryFailed({ domain }),
      client.delete({ domain, id: "m", allowMissing: true }),
      client.update({ memory: { domain, id: "m" }, updateMask: { paths: ["source"] } }),
    ];
    for (const error of await Promise.all(calls.map(errorOf))) {
      expect(error).toMatchObject({
        code: Code.NotFound,
        reason: "DOMAIN_NOT_FOUND",
        metadata: { domain },
      });
    }
    expect(await useCases.repository.findDomain(domain)).toBeUndefined();
  });

  test.each(Object.entries(transports))("a memory's life by %s", async (_name, transport) => {
    const { url } = await startTestListener(memoryServiceRoutes(useCases));
    const remote = createClient(MemoryService, transport(url));
    await remote.store({ id: "m", content: "apple", metadata: { a: 1 } });
    const { memory } = await remote.update({
      memory: { id: "m", metadata: { b: 2 }, content: "pear" },
      updateMask: { paths: ["metadata", "content"] },
      metadataMode: MetadataMode.MERGE,
      expectedVersion: 1n,
    });
    expect(memory).toMatchObject({ content: "pear", metadata: { a: 1, b: 2 }, version: 2n });
    expect((await remote.get({ id: "m" })).memory).toEqual(memory);
    expect(await remote.list({})).toMatchObject({ memories: [memory], nextPageToken: "" });
    expect(await errorOf(remote.delete({ id: "m", expectedVersion: 7n }))).toMatchObject({
      code: Code.Aborted,
      metadata: { current_version: "2" },
    });
    const batch = await remote.batchStore({ items: [{ id: "m", content: "other" }, { content: "" }] });
    expect(batch.results.map(({ result }) => result.case === "error" && result.value.reason)).toEqual([
      ErrorReason.MEMORY_ALREADY_EXISTS,
      ErrorReason.INVALID_ARGUMENT,
    ]);
    expect((await remote.delete({ id: "m" })).deleted).toBe(true);
    expect(await errorOf(remote.get({ id: "m" }))).toMatchObject(missing("m"));
    expect((await remote.store({ id: "m", content: "new" })).outcome).toBe(StoreOutcome.CREATED);
  });
});
