import fc from "fast-check";
import { expect, test } from "vitest";
import type { JsonObject, JsonValue, Memory, MemoryFields } from "../../../src/memory/model/memory.ts";
import { differingFields } from "../../../src/memory/write/diff-memory.ts";

const sent: MemoryFields = {
  content: "apple",
  source: "s",
  importance: 0.5,
  tags: ["a", "b"],
  metadata: { n: 1, list: [1, { x: null }], text: "t" },
  expiry: { kind: "after", ttl: 5n },
};
const stored: Memory = {
  ...sent,
  id: "m",
  domain: "d",
  createTime: 1n,
  updateTime: 2n,
  expireTime: 6n,
  version: 3n,
  chunkCount: 1,
  embedding: { state: "ready", failureReason: "", version: 1 },
};

test("ignores fields that the server sets", () => {
  expect(differingFields(stored, sent)).toEqual([]);
});

const changes: readonly [string, Partial<MemoryFields>][] = [
  ["content", { content: "Apple" }],
  ["content", { content: "apple\u0301" }],
  ["source", { source: "" }],
  ["importance", { importance: undefined }],
  ["importance", { importance: 0.5000000000000001 }],
  ["tags", { tags: [] }],
  ["tags", { tags: ["b", "a"] }],
  ["tags", { tags: ["a", "b", "c"] }],
  ["metadata", { metadata: {} }],
  ["metadata", { metadata: { ...sent.metadata, more: null } }],
  ["metadata", { metadata: { ...sent.metadata, n: "1" } }],
  ["metadata", { metadata: { ...sent.metadata, n: true } }],
  ["metadata", { metadata: { ...sent.metadata, n: null } }],
  ["metadata", { metadata: { ...sent.metadata, list: [{ x: null }, 1] } }],
  ["metadata", { metadata: { ...sent.metadata, list: { 0: 1, 1: { x: null }, length: 2 } } }],
  ["metadata", { metadata: { ...sent.metadata, list: [1, {}] } }],
  ["expiry", { expiry: { kind: "never" } }],
  ["expiry", { expiry: { kind: "after", ttl: 6n } }],
  ["expiry", { expiry: { kind: "at", time: 6n } }],
];

test.each(changes)("reports a difference in %s (%o)", (field, change) => {
  expect(differingFields(stored, { ...sent, ...change })).toEqual([field]);
});

test("reports every difference, in the order of the request", () => {
  const other = {
    content: "",
    source: "",
    importance: 0,
    tags: [],
    metadata: {},
    expiry: { kind: "never" },
  } as const;
  expect(differingFields(stored, other)).toEqual([
    "content",
    "source",
    "importance",
    "tags",
    "metadata",
    "expiry",
  ]);
});

test.each<[string, JsonObject, JsonObject, boolean]>([
  ["the order of keys", { a: 1, b: { c: 1, d: 2 } }, { b: { d: 2, c: 1 }, a: 1 }, true],
  ["the sign of zero", { a: 0 }, { a: -0 }, true],
  ["a key named __proto__", JSON.parse('{"__proto__":1}'), JSON.parse('{"__proto__":2}'), false],
  ["a key named __proto__ or none", JSON.parse('{"__proto__":{}}'), {}, false],
  ["an inherited name", { a: 1 }, { toString: 1 }, false],
  ["no value", { a: null }, { b: null }, false],
])("metadata are compared by value: %s", (_name, a, b, same) => {
  const differing = differingFields({ ...stored, metadata: a }, { ...sent, metadata: b });
  expect(differing).toEqual(same ? [] : ["metadata"]);
});

test("treats metadata as equal after a round trip through the database's JSON", () => {
  const isObject = (value: JsonValue): value is JsonObject => typeof value === "object" && value !== null;
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (metadata) => {
      const shuffled = (value: JsonValue): JsonValue => {
        if (Array.isArray(value)) return value.map(shuffled);
        if (!isObject(value)) return value;
        return Object.fromEntries(
          Object.entries(value)
            .reverse()
            .map(([key, inner]) => [key, shuffled(inner)]),
        );
      };
      const back = shuffled(JSON.parse(JSON.stringify(metadata)));
      if (!isObject(back)) throw new Error("not an object");
      expect(
        differingFields({ ...stored, metadata: back }, { ...sent, metadata: metadata as JsonObject }),
      ).toEqual([]);
    }),
  );
});
