import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { FilterSchema } from "memory-service-client/memoryservice/v1/filter_pb.js";
import { describe, expect, test } from "vitest";
import type { FieldViolation } from "../../../src/memory/model/errors.ts";
import type { Filter } from "../../../src/memory/model/filter.ts";
import { filterFromMessage } from "../../../src/rpc/messages/fields/filter.ts";

type Condition = NonNullable<MessageInitShape<typeof FilterSchema>["condition"]>;
type Test = (MessageInitShape<typeof FilterSchema>["condition"] & { case: "metadata" })["value"]["test"];

const read = (condition: Condition) => {
  const violations: FieldViolation[] = [];
  const filter = filterFromMessage(create(FilterSchema, { condition }), "filter", violations);
  return { filter, violations };
};
const metadata = (test: Test, path: string[] = ["a"]): Condition => ({
  case: "metadata",
  value: { path, ...(test === undefined ? {} : { test }) },
});
const anyOf = (...conditions: Condition[]): Condition => ({
  case: "anyOf",
  value: { filters: conditions.map((condition) => ({ condition })) },
});
const tag: Condition = { case: "tagsAny", value: { values: ["t"] } };
const nested = (levels: number): Condition => {
  let condition: Condition = tag;
  for (let level = 1; level < levels; level++) condition = anyOf(condition);
  return condition;
};
const string = (value: string) => ({ kind: { case: "stringValue" as const, value } });
const number = (value: number) => ({ kind: { case: "numberValue" as const, value } });
const list = (...values: ReturnType<typeof number>[]) => ({
  kind: { case: "listValue" as const, value: { values } },
});
const deepList = (levels: number) => {
  let value: unknown = number(1);
  for (let level = 0; level < levels; level++) value = list(value as ReturnType<typeof number>);
  return value as ReturnType<typeof number>;
};

describe("a filter", () => {
  const noBounds = { gte: undefined, gt: undefined, lte: undefined, lt: undefined };
  const good: readonly (readonly [string, Condition, Filter])[] = [
    ["ids", { case: "ids", value: { values: ["a", "b"] } }, { kind: "ids", ids: ["a", "b"] }],
    ["no source", { case: "sources", value: { values: [""] } }, { kind: "sources", sources: [""] }],
    ["any tag", tag, { kind: "tags_any", tags: ["t"] }],
    ["all tags", { case: "tagsAll", value: { values: ["t", "t"] } }, { kind: "tags_all", tags: ["t", "t"] }],
    [
      "importance from 0",
      { case: "importance", value: { gte: 0, lt: Number.POSITIVE_INFINITY } },
      { kind: "importance", range: { ...noBounds, gte: 0, lt: Number.POSITIVE_INFINITY } },
    ],
    [
      "a point of importance",
      { case: "importance", value: { gte: 1, lte: 1 } },
      { kind: "importance", range: { ...noBounds, gte: 1, lte: 1 } },
    ],
    [
      "create_time to the microsecond",
      { case: "createTime", value: { startTime: { seconds: -1n, nanos: 1_999 }, endTime: { nanos: 2_000 } } },
      { kind: "create_time", range: { start: -999_999n, end: 2n } },
    ],
    [
      "update_time",
      { case: "updateTime", value: { endTime: { seconds: 1n } } },
      { kind: "update_time", range: { start: undefined, end: 1_000_000n } },
    ],
    ["a state", { case: "embeddingState", value: 3 }, { kind: "embedding_state", state: "failed" }],
    [
      "an equal value",
      metadata({ case: "equals", value: list(number(1), string("x") as never) }, ["a.b", ""]),
      { kind: "metadata", path: ["a.b", ""], test: { kind: "one_of", values: [[1, "x"]] } },
    ],
    [
      "an equal object with an awkward key",
      metadata({
        case: "equals",
        value: { kind: { case: "structValue", value: { fields: { a: number(1), "": string("") } } } },
      }),
      { kind: "metadata", path: ["a"], test: { kind: "one_of", values: [{ a: 1, "": "" }] } },
    ],
    [
      "one of the values",
      metadata({
        case: "oneOf",
        value: {
          values: [{ kind: { case: "nullValue", value: 0 } }, { kind: { case: "boolValue", value: false } }],
        },
      }),
      { kind: "metadata", path: ["a"], test: { kind: "one_of", values: [null, false] } },
    ],
    [
      "nothing there",
      metadata({ case: "exists", value: false }),
      { kind: "metadata", path: ["a"], test: { kind: "exists", exists: false } },
    ],
    [
      "an element",
      metadata({ case: "contains", value: string("x") }),
      { kind: "metadata", path: ["a"], test: { kind: "contains", element: "x" } },
    ],
    [
      "a prefix",
      metadata({ case: "prefix", value: "%" }),
      { kind: "metadata", path: ["a"], test: { kind: "prefix", prefix: "%" } },
    ],
    [
      "combinations",
      { case: "noneOf", value: { filters: [{ condition: tag }] } },
      { kind: "none_of", filters: [{ kind: "tags_any", tags: ["t"] }] },
    ],
  ];

  test.each(good)("is read: %s", (_name, condition, filter) => {
    expect(read(condition)).toEqual({ filter, violations: [] });
  });

  test.each([
    ["8 levels", nested(8)],
    ["128 conditions", anyOf(...Array.from({ length: 128 }, () => tag))],
    [
      "1,000 values of 1,024 characters",
      { case: "ids", value: { values: Array(1_000).fill("😀".repeat(1_024)) } },
    ],
    ["16 keys", metadata({ case: "exists", value: true }, Array(16).fill("k"))],
    ["a value of 16 levels", metadata({ case: "equals", value: deepList(16) })],
  ] satisfies [string, Condition][])("is accepted at its limit of %s", (_name, condition) => {
    expect(read(condition).violations).toEqual([]);
  });

  const bad: readonly (readonly [string, Condition, string, string])[] = [
    ["no condition", { case: undefined }, "", "must have a condition"],
    [
      "an inner filter without condition",
      anyOf(tag, { case: undefined }),
      ".any_of.filters[1]",
      "must have a condition",
    ],
    ["9 levels", nested(9), ".any_of.filters[0]".repeat(8), "must be at most 8 levels deep, is deeper"],
    [
      "129 conditions in two lists",
      anyOf(anyOf(...Array.from({ length: 64 }, () => tag)), anyOf(...Array.from({ length: 65 }, () => tag))),
      ".any_of.filters[1].any_of.filters[64]",
      "must be removed, the filter has more than 128 conditions",
    ],
    [
      "129 filters",
      anyOf(...Array.from({ length: 129 }, () => tag)),
      ".any_of.filters",
      "must have 1 to 128 entries, has 129",
    ],
    ["no filters", anyOf(), ".any_of.filters", "must have 1 to 128 entries, has 0"],
    ["no ids", { case: "ids", value: {} }, ".ids.values", "must have 1 to 1000 entries, has 0"],
    [
      "1,001 sources",
      { case: "sources", value: { values: Array(1_001).fill("s") } },
      ".sources.values",
      "must have 1 to 1000 entries, has 1001",
    ],
    [
      "a tag of 1,025 characters",
      { case: "tagsAll", value: { values: ["t", "é".repeat(1_025)] } },
      ".tags_all.values[1]",
      "must have at most 1024 characters, has 1025",
    ],
    [
      "an id with NUL",
      { case: "ids", value: { values: ["\0"] } },
      ".ids.values[0]",
      "must not contain the NUL character",
    ],
    [
      "importance without a bound",
      { case: "importance", value: {} },
      ".importance",
      "must have a bound: gte, gt, lte or lt",
    ],
    [
      "importance with NaN",
      { case: "importance", value: { gt: Number.NaN } },
      ".importance.gt",
      "must not be NaN",
    ],
    [
      "importance from 2 to 1",
      { case: "importance", value: { gt: 2, lte: 1 } },
      ".importance",
      "must not start above its end, got 2 to 1",
    ],
    [
      "two lower bounds",
      { case: "importance", value: { gt: 0, gte: 0 } },
      ".importance",
      "must not have both gte and gt",
    ],
    [
      "two upper bounds",
      { case: "importance", value: { lt: 0, lte: 0 } },
      ".importance",
      "must not have both lte and lt",
    ],
    [
      "no time",
      { case: "createTime", value: {} },
      ".create_time",
      "must have a bound: start_time or end_time",
    ],
    [
      "an empty time",
      { case: "createTime", value: { startTime: { nanos: 1_000 }, endTime: { nanos: 1_999 } } },
      ".create_time",
      "must have its start_time before its end_time, by at least a microsecond",
    ],
    [
      "the year 10000",
      { case: "updateTime", value: { endTime: { seconds: 253_402_300_800n } } },
      ".update_time.end_time",
      "must be a time in the years 1 to 9999",
    ],
    [
      "negative nanoseconds",
      { case: "updateTime", value: { startTime: { nanos: -1 } } },
      ".update_time.start_time",
      "must be a time in the years 1 to 9999",
    ],
    ["no state", { case: "embeddingState", value: 0 }, ".embedding_state", "must be one of 1, 2, 3, got 0"],
    [
      "an unknown state",
      { case: "embeddingState", value: 4 as number },
      ".embedding_state",
      "must be one of 1, 2, 3, got 4",
    ],
    [
      "no path",
      metadata({ case: "exists", value: true }, []),
      ".metadata.path",
      "must have 1 to 16 entries, has 0",
    ],
    [
      "17 keys",
      metadata({ case: "exists", value: true }, Array(17).fill("k")),
      ".metadata.path",
      "must have 1 to 16 entries, has 17",
    ],
    [
      "a reserved key",
      metadata({ case: "exists", value: true }, ["tags"]),
      ".metadata.path[0]",
      'must not be "tags", which has a condition of its own',
    ],
    [
      "a key with NUL",
      metadata({ case: "exists", value: true }, ["a", "\0"]),
      ".metadata.path[1]",
      "must not contain the NUL character",
    ],
    [
      "no test",
      metadata(undefined),
      ".metadata",
      "must have a test: equals, one_of, range, exists, contains or prefix",
    ],
    [
      "equals without a value",
      metadata({ case: "equals", value: {} }),
      ".metadata.equals",
      "must have a value",
    ],
    [
      "equals infinity",
      metadata({ case: "equals", value: number(Number.POSITIVE_INFINITY) }),
      ".metadata.equals",
      "must be a finite number, got Infinity",
    ],
    [
      "equals NaN in a list",
      metadata({ case: "equals", value: list(number(Number.NaN)) }),
      ".metadata.equals",
      "must be a finite number, got NaN",
    ],
    [
      "equals of 17 levels",
      metadata({ case: "equals", value: deepList(17) }),
      ".metadata.equals",
      "must have at most 16 levels, has more",
    ],
    [
      "one of none",
      metadata({ case: "oneOf", value: {} }),
      ".metadata.one_of.values",
      "must have 1 to 1000 entries, has 0",
    ],
    [
      "one of with NUL",
      metadata({ case: "oneOf", value: { values: [number(1), string("\0")] } }),
      ".metadata.one_of.values[1]",
      "must not contain the NUL character",
    ],
    [
      "a range without a bound",
      metadata({ case: "range", value: {} }),
      ".metadata.range",
      "must have a bound: gte, gt, lte or lt",
    ],
    [
      "contains a list",
      metadata({ case: "contains", value: list(number(1)) }),
      ".metadata.contains",
      "must be a string, number, bool or null, got a list or an object",
    ],
    ["an empty prefix", metadata({ case: "prefix", value: "" }), ".metadata.prefix", "must not be empty"],
    [
      "a prefix of 1,025 characters",
      metadata({ case: "prefix", value: "p".repeat(1_025) }),
      ".metadata.prefix",
      "must have at most 1024 characters, has 1025",
    ],
  ];

  test.each(bad)("with %s is refused", (_name, condition, path, description) => {
    expect(read(condition)).toEqual({
      filter: undefined,
      violations: [{ field: `filter${path}`, description }],
    });
  });

  test("reports all violations", () => {
    const { violations } = read(anyOf({ case: undefined }, metadata(undefined, []), nested(8)));
    expect(violations.map(({ field }) => field)).toEqual([
      "filter.any_of.filters[0]",
      "filter.any_of.filters[1].metadata.path",
      "filter.any_of.filters[1].metadata",
      `filter.any_of.filters[2]${".any_of.filters[0]".repeat(7)}`,
    ]);
  });

  test("reports at most 100 of 100,000 violations", () => {
    const many = anyOf(
      ...Array.from(
        { length: 100 },
        () => ({ case: "ids", value: { values: Array(1_000).fill("\0") } }) as const,
      ),
    );
    expect(read(many).violations).toHaveLength(100);
  });
});
