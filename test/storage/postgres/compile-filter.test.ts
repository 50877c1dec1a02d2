import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Filter, MetadataTest, NumberRange } from "../../../src/memory/model/filter.ts";
import type { JsonObject, JsonValue } from "../../../src/memory/model/memory.ts";
import type { Database, Parameter, Queryable } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { isMatching } from "../../../src/storage/postgres/search/compile-filter.ts";
import { newDomainName } from "../../support/drafts.ts";
import { type FilteredRow, passesFilter } from "../../support/evaluate-filter.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

// Few different ones, so that filters and memories meet; all of them awkward somewhere.
const key = fc.constantFrom(
  "a",
  "b",
  "0",
  "1",
  "-1",
  "a.b",
  "$",
  '"',
  "'",
  "",
  "%",
  "__proto__",
  "{a}",
  "\\",
  "é",
);
const word = fc.constantFrom("", "a", "ab", "a%", "A", "_", "1", "true", "null", 'a"b\\', "é", "😀", "$1");
const number = fc.constantFrom(
  0,
  -0,
  1,
  -1,
  0.1,
  0.30000000000000004,
  17.5,
  1e21,
  -1e-7,
  5e-324,
  1.7976931348623157e308,
  9007199254740992,
);
const scalar: fc.Arbitrary<null | boolean | number | string> = fc.oneof(
  fc.constant(null),
  fc.boolean(),
  number,
  word,
);
const { json, object } = fc.letrec<{ json: JsonValue; object: JsonObject; list: JsonValue[] }>((tie) => ({
  json: fc.oneof({ depthSize: "small" }, { weight: 4, arbitrary: scalar }, tie("object"), tie("list")),
  object: fc
    .array(fc.tuple(key, tie("json")), { maxLength: 3 })
    .map((entries) => Object.fromEntries(entries)),
  list: fc.array(tie("json"), { maxLength: 3 }),
}));

const time = fc.integer({ min: -3, max: 3 }).map((step) => 1_700_000_000_000_000n + BigInt(step));
const state = fc.constantFrom("pending" as const, "ready" as const, "failed" as const);
const ids = Array.from({ length: 200 }, (_, i) => `m${i}`);

/** Mostly as this server writes them; else as imports may. */
const metadata = fc
  .tuple(
    object,
    fc.oneof({ weight: 2, arbitrary: fc.array(word, { maxLength: 3 }) }, json, fc.constant(undefined)),
    fc.oneof({ weight: 2, arbitrary: word }, json, fc.constant(undefined)),
    fc.oneof({ weight: 2, arbitrary: number }, json, fc.constant(undefined)),
  )
  .map(([own, tags, source, importance]) => ({
    ...own,
    ...(tags === undefined ? {} : { tags }),
    ...(source === undefined ? {} : { source }),
    ...(importance === undefined ? {} : { importance }),
  }));

const numberRange: fc.Arbitrary<NumberRange> = fc
  .record({
    gte: fc.option(number, { nil: undefined }),
    gt: fc.option(number, { nil: undefined }),
    lte: fc.option(number, { nil: undefined }),
    lt: fc.option(number, { nil: undefined }),
  })
  .filter((range) => Object.values(range).some((bound) => bound !== undefined));
const timeRange = fc
  .record({ start: fc.option(time, { nil: undefined }), end: fc.option(time, { nil: undefined }) })
  .filter(({ start, end }) => start !== undefined || end !== undefined);
const some = <T>(item: fc.Arbitrary<T>) => fc.array(item, { minLength: 1, maxLength: 3 });

const metadataTest: fc.Arbitrary<MetadataTest> = fc.oneof(
  fc.record({ kind: fc.constant("one_of" as const), values: some(json) }),
  fc.record({
    kind: fc.constant("one_of" as const),
    values: fc.array(json, { minLength: 17, maxLength: 20 }),
  }),
  fc.record({ kind: fc.constant("range" as const), range: numberRange }),
  fc.record({ kind: fc.constant("exists" as const), exists: fc.boolean() }),
  fc.record({ kind: fc.constant("contains" as const), element: scalar }),
  fc.record({ kind: fc.constant("prefix" as const), prefix: word.filter((prefix) => prefix !== "") }),
);
const { filter } = fc.letrec<{ filter: Filter }>((tie) => ({
  filter: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    fc.record({
      kind: fc.constant("metadata" as const),
      path: fc.array(key, { minLength: 1, maxLength: 3 }),
      test: metadataTest,
    }),
    fc.record({
      kind: fc.constantFrom("all_of" as const, "any_of" as const, "none_of" as const),
      filters: some(tie("filter")),
    }),
    fc.record({ kind: fc.constant("ids" as const), ids: some(fc.constantFrom(...ids, "", "other")) }),
    fc.record({ kind: fc.constant("sources" as const), sources: some(word) }),
    fc.record({ kind: fc.constantFrom("tags_any" as const, "tags_all" as const), tags: some(word) }),
    fc.record({
      kind: fc.constant("tags_any" as const),
      tags: fc.array(word, { minLength: 17, maxLength: 20 }),
    }),
    fc.record({ kind: fc.constant("importance" as const), range: numberRange }),
    fc.record({
      kind: fc.constantFrom("create_time" as const, "update_time" as const),
      range: timeRange,
    }),
    fc.record({ kind: fc.constant("embedding_state" as const), state }),
  ),
}));

describe.each(databaseEngines())("filters in SQL on $name", ({ open }) => {
  let database: Database;
  let domain: string;

  beforeAll(async () => {
    database = await open();
    domain = newDomainName();
    await createPostgresRepository(database).createDomain(domain, 3);
  });
  afterAll(() => database.close());

  const insert = (row: FilteredRow, expired = false) =>
    database.query(
      {
        text: `insert into "${domain}_memories"
            (id, content, metadata, created_at, updated_at, embedding_state, expires_at)
          values ($1, 'x', $2::jsonb, memory_time($3::bigint), memory_time($4::bigint), $5,
            case when $6 then now() - interval '1 second' end)`,
      },
      [row.id, JSON.stringify(row.metadata), row.createTime, row.updateTime, row.state, expired],
    );
  const find = async (queryable: Queryable, wanted: Filter, selective = false) => {
    const parameters: Parameter[] = [];
    const condition = isMatching(wanted, parameters, "m", { selective });
    const rows = await queryable.query<{ id: string }>(
      { text: `select m.id from "${domain}_memories" m where ${condition}` },
      parameters,
    );
    return rows.map(({ id }) => id).sort();
  };

  describe("over random memories", () => {
    const rows: FilteredRow[] = [];

    beforeAll(async () => {
      const random = fc.sample(fc.record({ metadata, createTime: time, updateTime: time, state }), {
        numRuns: ids.length,
        seed: 7,
      });
      for (const [index, id] of ids.entries()) {
        const fields = random[index];
        if (fields === undefined) continue;
        const row = { id, ...fields };
        await insert(row, index % 20 === 19);
        if (index % 20 !== 19) rows.push(row);
      }
    });
    afterAll(() => database.query({ text: `delete from "${domain}_memories"` }));

    test.each([
      ["by scans", "enable_bitmapscan"],
      ["by indexes", "enable_seqscan"],
    ])("find %s what their plain evaluation finds", async (_name, setting) => {
      let telling = 0;
      await fc.assert(
        fc.asyncProperty(filter, async (wanted) => {
          const expected = rows.filter((row) => passesFilter(row, wanted)).map(({ id }) => id);
          if (expected.length > 0 && expected.length < rows.length) telling++;
          const found = await database.transaction(async (transaction) => {
            await transaction.execute(`set local ${setting} = off`);
            return await find(transaction, wanted, setting === "enable_seqscan");
          });
          expect(found).toEqual(expected.sort());
        }),
        { numRuns: 400 },
      );
      expect(telling).toBeGreaterThan(150);
    });
  });

  const path = ["k"];
  const isOneOf = (...values: JsonValue[]): Filter => ({
    kind: "metadata",
    path,
    test: { kind: "one_of", values },
  });
  const range = (bounds: Partial<NumberRange>): NumberRange => ({
    gte: undefined,
    gt: undefined,
    lte: undefined,
    lt: undefined,
    ...bounds,
  });

  const cases: readonly (readonly [string, string, Filter, boolean])[] = [
    ["1 equals 1.0", '{"k":1.0}', isOneOf(1), true],
    ["a number never equals a string", '{"k":"1"}', isOneOf(1), false],
    ["null there equals null", '{"k":null}', isOneOf(null), true],
    ["nothing there does not equal null", "{}", isOneOf(null), false],
    ["a longer list is not equal", '{"k":[1,2]}', isOneOf([1]), false],
    ["an equal list is", '{"k":[1,2]}', isOneOf([1, 2]), true],
    ["a list in another order is not equal", '{"k":[2,1]}', isOneOf([1, 2]), false],
    ["a larger object is not equal", '{"k":{"a":1,"b":2}}', isOneOf({ a: 1 }), false],
    ["the order of keys means nothing", '{"k":{"b":2,"a":1}}', isOneOf({ a: 1, b: 2 }), true],
    ["no list for its only element", '{"k":[1]}', isOneOf(1), false],
    [
      "a number too large for a double is above all bounds",
      '{"k":1e400}',
      { kind: "metadata", path, test: { kind: "range", range: range({ gt: Number.MAX_VALUE }) } },
      true,
    ],
    [
      "a number too large for a double is below infinity",
      '{"k":1e400}',
      { kind: "metadata", path, test: { kind: "range", range: range({ lt: Number.POSITIVE_INFINITY }) } },
      true,
    ],
    [
      "a string is in no range",
      '{"k":"5"}',
      { kind: "metadata", path, test: { kind: "range", range: range({ gt: 0 }) } },
      false,
    ],
    [
      "a key that looks like a number is no element of a list",
      '{"k":["x"]}',
      { kind: "metadata", path: ["k", "0"], test: { kind: "exists", exists: true } },
      false,
    ],
    [
      "a key that looks like a number is a member of an object",
      '{"k":{"0":"x"}}',
      { kind: "metadata", path: ["k", "0"], test: { kind: "exists", exists: true } },
      true,
    ],
    [
      "metadata that are a list have no keys",
      '["k"]',
      { kind: "metadata", path, test: { kind: "exists", exists: true } },
      false,
    ],
    [
      "metadata that are a list lack a key",
      '["k"]',
      { kind: "metadata", path, test: { kind: "exists", exists: false } },
      true,
    ],
    [
      "a wildcard in a prefix is a letter",
      '{"k":"abc"}',
      { kind: "metadata", path, test: { kind: "prefix", prefix: "a%" } },
      false,
    ],
    [
      "a list within a list is not contained by its elements",
      '{"k":[["x"]]}',
      { kind: "metadata", path, test: { kind: "contains", element: "x" } },
      false,
    ],
    [
      "a string contains nothing",
      '{"k":"x"}',
      { kind: "metadata", path, test: { kind: "contains", element: "x" } },
      false,
    ],
    [
      "an importance above 1",
      '{"importance":17.5}',
      { kind: "importance", range: range({ gt: 17, lt: 18 }) },
      true,
    ],
    [
      "an importance that is a string",
      '{"importance":"0.5"}',
      { kind: "importance", range: range({ gte: 0 }) },
      false,
    ],
    ["tags that are a string", '{"tags":"x"}', { kind: "tags_any", tags: ["x", "y"] }, false],
    ["tags that are an object", '{"tags":{"x":1}}', { kind: "tags_any", tags: ["x", "y"] }, false],
    ["a source that is a number", '{"source":5}', { kind: "sources", sources: [""] }, true],
  ];

  test.each(cases)("%s", async (_name, json, wanted, expected) => {
    await database.query({ text: `delete from "${domain}_memories"` });
    await database.query(
      { text: `insert into "${domain}_memories" (id, content, metadata) values ('m', 'x', $1::jsonb)` },
      [json],
    );
    expect(await find(database, wanted)).toEqual(expected ? ["m"] : []);
    expect(await find(database, { kind: "none_of", filters: [wanted] })).toEqual(expected ? [] : ["m"]);
  });

  test("a thousand values can be looked up in the index", async () => {
    await database.query({ text: `delete from "${domain}_memories"` });
    await database.query({
      text: `insert into "${domain}_memories" (id, content, metadata)
        select 'm' || i, 'x', jsonb_build_object('k', i) from generate_series(1, 2000) as i`,
    });
    const wanted = isOneOf(...Array.from({ length: 1_000 }, (_, i) => i * 2));
    expect(await find(database, wanted)).toHaveLength(999);
    expect(await find(database, wanted, true)).toHaveLength(999);
    const parameters: Parameter[] = [];
    const condition = isMatching(wanted, parameters, "m", { selective: true });
    const plan = await database.transaction(async (transaction) => {
      await transaction.execute("set local enable_seqscan = off");
      return await transaction.query(
        { text: `explain select m.id from "${domain}_memories" m where ${condition}` },
        parameters,
      );
    });
    expect(JSON.stringify(plan)).toContain("Bitmap Index Scan");
  });
});
