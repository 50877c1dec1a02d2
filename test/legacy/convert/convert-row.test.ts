import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { convertRow, originalRow } from "../../../src/legacy/convert/convert-row.ts";
import { hashRow, renamedId } from "../../../src/legacy/convert/row-ids.ts";
import { openLegacySource } from "../../../src/legacy/readers/open-legacy-source.ts";
import type { LegacyRow } from "../../../src/legacy/readers/read-database.ts";
import { type StoredValue, textValue } from "../../../src/legacy/readers/stored-value.ts";
import { MEMORY_ID } from "../../../src/memory/model/limits.ts";
import { FIXTURES, fixturesDirectory } from "../fixtures.ts";

const never = new AbortController().signal;

const row = (changes: Readonly<Record<string, StoredValue | string>> = {}): LegacyRow => {
  const all: Readonly<Record<string, StoredValue | string>> = {
    id: "mem_1749522937456",
    content: "The cat sat.",
    metadata: '{"created_at": 1749522937.4564712, "updated_at": 1749522937.4564712}',
    created_at: 1749522937.4564712,
    updated_at: 1749522937.4564712,
    ...changes,
  };
  return Object.fromEntries(
    Object.entries(all).map(([column, value]) => [
      column,
      typeof value === "string" ? textValue(value) : value,
    ]),
  );
};

/** Shows bytes as text, so that a Buffer equals a Uint8Array. */
const plain = (value: LegacyRow) =>
  Object.fromEntries(
    Object.entries(value).map(([column, one]) => [
      column,
      one !== null && typeof one === "object" ? `${one.type} ${Buffer.from(one.bytes).toString("hex")}` : one,
    ]),
  );

/** Changes metadata as PostgreSQL does: it reorders keys and has no -0. */
function kept<T>(value: T): T {
  return JSON.parse(
    JSON.stringify(value, (_, inner: unknown) =>
      typeof inner === "object" && inner !== null && !Array.isArray(inner)
        ? Object.fromEntries(
            Object.entries(inner).toSorted(([a], [b]) => a.length - b.length || (a < b ? -1 : 1)),
          )
        : inner,
    ),
  ) as T;
}

function restored(original: LegacyRow): LegacyRow {
  const { record, ...fields } = convertRow(original);
  return originalRow({ ...fields, metadata: kept(fields.metadata) }, kept(record));
}

describe("a row becomes a memory and can be restored, bit for bit", () => {
  test.each([...FIXTURES, "fork-agency.export.json"])("all of %s", async (fixture) => {
    const source = await openLegacySource(join(fixturesDirectory, fixture), never);
    try {
      let rows = 0;
      for (const original of source.database.rows("memories")) {
        const again = restored(original);
        expect(plain(again)).toEqual(plain(original));
        expect(hashRow(again)).toBe(hashRow(original));
        rows++;
      }
      expect(rows).toBe(source.database.count("memories"));
    } finally {
      await source.close();
    }
  });

  const blob = (...bytes: number[]) => ({ type: "blob", bytes: Uint8Array.from(bytes) }) as const;
  const text = (...bytes: number[]) => ({ type: "text", bytes: Uint8Array.from(bytes) }) as const;
  const metadata = (json: string) => ({ metadata: json });
  test.each<[string, Readonly<Record<string, StoredValue | string>>]>([
    ["NUL in content", { content: "a\0b" }],
    ["no UTF-8 in content", { content: text(0x61, 0xff, 0xc3) }],
    ["half a surrogate pair in content", { content: text(0xed, 0xa0, 0xbd) }],
    ["a byte order mark in content", { content: "\ufeffx" }],
    ["content that is a blob", { content: blob(1, 2) }],
    ["empty content", { content: "" }],
    ["an id with odd characters", { id: "mein Gedächtnis/1" }],
    ["an id that is null", { id: null }],
    ["an id that is empty", { id: "" }],
    ["an id that exceeds the maximum length", { id: "i".repeat(51) }],
    ["NaN", metadata('{"importance": NaN}')],
    ["infinite importance", metadata('{"importance": -Infinity}')],
    ["an importance of 17.5", metadata('{"importance": 17.5}')],
    ["a whole importance", metadata('{"importance": 1}')],
    ["negative zero", metadata('{"importance": -0.0, "a": -0.0}')],
    ["an importance that is text", metadata('{"importance": "high"}')],
    ["a whole number beyond 2^53", metadata('{"n": 9007199254740993}')],
    ["half a surrogate pair in a key", metadata('{"\\ud83d": "\\udc00"}')],
    ["NUL in metadata", metadata('{"a": "\\u0000"}')],
    ["a key __proto__", metadata('{"__proto__": {"x": 1.5}}')],
    ["a key of the record", metadata('{"legacy_import": {"x": 1}}')],
    ["a key twice", metadata('{"a": 1.5, "a": 2.5}')],
    ["keys in another order", metadata('{"updated_at": 1.5, "zz": 1.5, "a": {"bb": 1.5, "a": null}}')],
    ["other spaces", metadata('{"a":1.5}')],
    ["letters that Python would escape", metadata('{"a": "é"}')],
    ["text for a time", metadata('{"created_at": "yesterday"}')],
    ["reserved keys of other types", metadata('{"source": 5, "tags": ["a", 1, null]}')],
    ["tags that are text", metadata('{"tags": "a,b"}')],
    ["an empty source", metadata('{"source": ""}')],
    ["100 levels", metadata(`${'{"a": '.repeat(100)}1.5${"}".repeat(100)}`)],
    ["1,900 levels", metadata(`${'{"a": '.repeat(1_900)}1.5${"}".repeat(1_900)}`)],
    ["metadata that is a list", metadata("[1.5]")],
    ["metadata that is not JSON", metadata("{'a': 1}")],
    ["metadata that is empty", metadata("")],
    ["metadata that is not UTF-8", { metadata: text(0x22, 0xff, 0x22) }],
    ["times that are none", { created_at: Number.POSITIVE_INFINITY, updated_at: "soon" }],
    ["times before Christ", { created_at: -1e11, updated_at: -0 }],
    ["times that are whole numbers", { created_at: 1749522937n, updated_at: null }],
    ["tags and an end, as in the fork", { tags: '["a", "a", "ü"]', expires_at: 1893456000.25 }],
    ["tags in both places", { ...metadata('{"tags": ["x"]}'), tags: '["y"]', expires_at: null }],
    ["tags that Python has not written", { tags: '["a","b"]', expires_at: null }],
    ["an unknown column", { colour: "red", size: 12n }],
  ])("%s", (_, changes) => {
    const original = row(changes);
    const again = restored(original);
    expect(plain(again)).toEqual(plain(original));
    expect(hashRow(again)).toBe(hashRow(original));
    const { id, content, source, tags, metadata: json, importance } = convertRow(original);
    expect(id).toMatch(MEMORY_ID);
    expect(renamedId(original)).toMatch(MEMORY_ID);
    // The converted fields are valid for the service.
    const all = JSON.stringify([content, source, tags, json]);
    expect(all).not.toMatch(/\\u0000|\\ud[89a-f]/);
    expect(importance ?? 0).toSatisfy(Number.isFinite);
    for (const key of ["source", "importance", "tags"]) expect(Object.hasOwn(json, key)).toBe(false);
  });

  test("the record of a typical row has only two columns", () => {
    const typical = row({
      metadata:
        '{"tags": ["a"], "source": "chat", "importance": 0.8, "created_at": 1749522937.4564712, "updated_at": 1749522938.25}',
      updated_at: 1749522938.25,
    });
    expect(convertRow(typical)).toMatchObject({
      source: "chat",
      importance: 0.8,
      tags: ["a"],
      metadata: {},
      changes: [],
      record: { fork: false, columns: { created_at: 1749522937.4564712, updated_at: 1749522938.25 } },
    });
    expect(Object.keys(convertRow(typical).record.columns)).toEqual(["created_at", "updated_at"]);
  });
});

test.each<[StoredValue | string, bigint | undefined]>([
  [1749522937.4564712, 1_749_522_937_456_471n],
  [1751356837.442673, 1_751_356_837_442_673n],
  [0.9999996, 1_000_000n],
  [-0.25, -250_000n],
  [1749522937n, 1_749_522_937_000_000n],
  ["2026-03-20T01:02:03.5+00:00", 1_773_968_523_500_000n],
  ["2026-03-20 01:02:03.123456+01", 1_773_964_923_123_456n],
  ["0000-01-01T00:00:00Z", 1_749_522_937_456_000n],
  ["9999-12-31T23:59:59-14:00", 1_749_522_937_456_000n],
  ["2026-02-30T00:00:00Z", 1_749_522_937_456_000n],
  ["2026-13-01T00:00:00Z", 1_749_522_937_456_000n],
  [1e300, 1_749_522_937_456_000n],
  [null, 1_749_522_937_456_000n],
])("reads the time %s to the microsecond", (time, microseconds) => {
  expect(convertRow(row({ created_at: time })).createTime).toBe(microseconds);
});

test.each([["never"], [Number.POSITIVE_INFINITY], [1e300]])(
  "reports an expiry that is not a time: %s",
  (end) => {
    const { expireTime, changes } = convertRow(row({ tags: "[]", expires_at: end }));
    expect(expireTime).toBeUndefined();
    expect(changes).toEqual(["expires_at is not a time in the years 1 to 9999; the memory does not expire"]);
  },
);

test("uses the update time if neither the row nor its id has a creation time", () => {
  const converted = convertRow(row({ id: "mine", created_at: "yesterday", updated_at: 1749522938.25 }));
  expect(converted.createTime).toBe(1_749_522_938_250_000n);
  expect(converted.updateTime).toBe(1_749_522_938_250_000n);
});

test("distinguishes a text and a blob with the same bytes as ids", () => {
  const bytes = Buffer.from("mein Gedächtnis/1");
  const ids = (["text", "blob"] as const).map((type) => convertRow(row({ id: { type, bytes } })).id);
  expect(new Set(ids).size).toBe(2);
});

test("describes every change, and none if nothing had to change", () => {
  expect(convertRow(row()).changes).toEqual([]);
  expect(
    convertRow(row({ id: "a b", content: "\0", metadata: '{"a": NaN, "b": 9007199254740993}' })).changes,
  ).toEqual([
    "the id is not valid; a new id is derived from it",
    "content contains what PostgreSQL cannot store, which becomes U+FFFD",
    "metadata contains NaN or an infinite number, which becomes a text",
    "metadata contains a number that a double cannot hold, which becomes a text",
  ]);
  const metadata = {
    type: "text",
    bytes: Uint8Array.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
  } as const;
  expect(convertRow(row({ metadata, tags: "[]", expires_at: "soon" })).changes).toEqual([
    "metadata contains invalid UTF-8, which becomes U+FFFD",
    "expires_at is not a time in the years 1 to 9999; the memory does not expire",
  ]);
});
