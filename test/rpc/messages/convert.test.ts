import { create } from "@bufbuild/protobuf";
import { DurationSchema, TimestampSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { Memory_Embedding_State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  IfExists,
  SearchMode,
  SearchRequestSchema,
  StoreRequestSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { describe, expect, test } from "vitest";
import { ServiceError } from "../../../src/memory/model/errors.ts";
import type { Memory } from "../../../src/memory/model/memory.ts";
import { messageFromMemory } from "../../../src/rpc/messages/fields/memory.ts";
import { searchCommandFromRequest } from "../../../src/rpc/messages/search.ts";
import { storeCommandFromRequest } from "../../../src/rpc/messages/store.ts";
import {
  microsecondsFromDuration,
  microsecondsFromTimestamp,
  timestampFromMicroseconds,
} from "../../../src/util/proto-time.ts";

describe("times", () => {
  test.each([
    [0n, 0n, 0],
    [1n, 0n, 1_000],
    [1_500_000n, 1n, 500_000_000],
    [-1n, -1n, 999_999_000],
    [-1_000_000n, -1n, 0],
    [-1_500_000n, -2n, 500_000_000],
    [253_402_300_799_999_999n, 253_402_300_799n, 999_999_000],
    [-62_135_596_800_000_000n, -62_135_596_800n, 0],
  ])("of %d microseconds are %d seconds and %d nanoseconds", (microseconds, seconds, nanos) => {
    expect(timestampFromMicroseconds(microseconds)).toEqual(create(TimestampSchema, { seconds, nanos }));
    expect(microsecondsFromTimestamp(create(TimestampSchema, { seconds, nanos }))).toBe(microseconds);
  });

  test("round-trip with microsecond precision", () => {
    const years1To9999 = fc.bigInt({ min: -62_135_596_800_000_000n, max: 253_402_300_799_999_999n });
    fc.assert(
      fc.property(years1To9999, (microseconds) => {
        const timestamp = timestampFromMicroseconds(microseconds);
        expect(timestamp.nanos).toBeGreaterThanOrEqual(0);
        expect(timestamp.nanos).toBeLessThan(1_000_000_000);
        expect(microsecondsFromTimestamp(timestamp)).toBe(microseconds);
      }),
    );
  });

  test("and durations are truncated to microseconds", () => {
    expect(microsecondsFromTimestamp(create(TimestampSchema, { seconds: 5n, nanos: 1_999 }))).toBe(
      5_000_001n,
    );
    expect(microsecondsFromDuration(create(DurationSchema, { seconds: 5n, nanos: 1_999 }))).toBe(5_000_001n);
    expect(microsecondsFromDuration(create(DurationSchema, { nanos: 999 }))).toBe(0n);
    expect(microsecondsFromDuration(create(DurationSchema, { seconds: -1n, nanos: -1_999 }))).toBe(
      -1_000_001n,
    );
  });
});

describe("a request to store", () => {
  test("becomes a command with every default", () => {
    expect(storeCommandFromRequest(create(StoreRequestSchema, { content: "apple" }), "work")).toEqual({
      domain: "work",
      id: undefined,
      content: "apple",
      source: "",
      importance: undefined,
      tags: [],
      metadata: {},
      expiry: { kind: "never" },
      ifExists: "fail",
      embeddingMode: "inline",
    });
  });

  test("becomes a command with all fields", () => {
    const request = create(StoreRequestSchema, {
      content: "apple",
      domain: "fruit",
      id: "m",
      source: "s",
      importance: 0,
      tags: ["a", "b", "a"],
      metadata: { k: 1 },
      expiry: { case: "ttl", value: { seconds: 60n, nanos: 0 } },
      ifExists: IfExists.KEEP,
      embeddingMode: 2,
    });
    expect(storeCommandFromRequest(request, "work")).toEqual({
      domain: "fruit",
      id: "m",
      content: "apple",
      source: "s",
      importance: 0,
      tags: ["a", "b"],
      metadata: { k: 1 },
      expiry: { kind: "after", ttl: 60_000_000n },
      ifExists: "keep",
      embeddingMode: "background",
    });
  });

  // Encoders of clients replace lone surrogates and JSON rejects most of them. This check catches the rest.
  test.each([
    ["content", { content: "a\ud800" }],
    ["source", { content: "a", source: "\udc00" }],
    ["tags", { content: "a", tags: ["\udc00\ud800"] }],
    ["metadata", { content: "a", metadata: { a: { b: ["\ud800"] } } }],
    ["metadata", { content: "a", metadata: { "\ud800": 1 } }],
  ])("with a lone surrogate in %s is rejected", (field, fields) => {
    expect(() => storeCommandFromRequest(create(StoreRequestSchema, fields), "work")).toThrow(
      expect.objectContaining({
        violations: [{ field, description: expect.stringContaining("well-formed") }],
      }),
    );
  });
});

describe("a request to search", () => {
  const commandFrom = (
    fields: Parameters<typeof create<typeof SearchRequestSchema>>[1],
    kind: "search" | "stream",
  ) => searchCommandFromRequest(create(SearchRequestSchema, fields), kind, "work");

  test.each([
    ["search", 5],
    ["stream", 100],
  ] as const)("becomes a command with every default (%s)", (kind, limit) => {
    expect(commandFrom({ query: "apple" }, kind)).toEqual({
      domains: ["work"],
      query: "apple",
      limit,
      mode: "hybrid",
      allowFallback: true,
      minSimilarity: undefined,
      minTextScore: undefined,
      fusion: { textWeight: 0.55, semanticWeight: 0.45, k: undefined },
      boost: { importanceWeight: 0 },
      diversity: 0,
      content: true,
      explain: false,
    });
  });

  test.each([
    [SearchMode.UNSPECIFIED, undefined, true],
    [SearchMode.HYBRID, undefined, true],
    [SearchMode.HYBRID, false, false],
    [SearchMode.SEMANTIC, undefined, false],
    [SearchMode.SEMANTIC, true, true],
  ])("of mode %d with allow_fallback %s: %s", (mode, allowFallback, expected) => {
    const fields = { query: "apple", mode, ...(allowFallback === undefined ? {} : { allowFallback }) };
    expect(commandFrom(fields, "search").allowFallback).toBe(expected);
  });

  test("has the limits of its kind", () => {
    expect(commandFrom({ query: "apple", limit: 10_000 }, "stream").limit).toBe(10_000);
    expect(() => commandFrom({ query: "apple", limit: 1_001 }, "search")).toThrow(ServiceError);
    expect(() => commandFrom({ query: "apple", limit: 10_001 }, "stream")).toThrow(ServiceError);
  });
});

test("a memory becomes a message, with unset fields left unset", () => {
  const memory: Memory = {
    id: "m",
    domain: "d",
    content: "",
    source: "",
    importance: undefined,
    tags: [],
    metadata: {},
    expiry: { kind: "never" },
    createTime: 1n,
    updateTime: 2n,
    expireTime: undefined,
    version: 9_007_199_254_740_993n,
    chunkCount: 3,
    embedding: { state: "failed", failureReason: "no", version: undefined },
  };
  const message = messageFromMemory(memory, "beginning");
  expect(message).toMatchObject({
    id: "m",
    domain: "d",
    version: 9_007_199_254_740_993n,
    chunkCount: 3,
    preview: "beginning",
    embedding: { state: Memory_Embedding_State.FAILED, failureReason: "no", version: 0 },
  });
  expect(message.importance).toBeUndefined();
  expect(message.expireTime).toBeUndefined();
  expect(messageFromMemory({ ...memory, importance: 0, expireTime: 0n })).toMatchObject({
    importance: 0,
    expireTime: { seconds: 0n, nanos: 0 },
  });
});
