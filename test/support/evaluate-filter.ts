import { isDeepStrictEqual } from "node:util";
import type { Filter, MetadataTest, NumberRange, TimeRange } from "../../src/memory/model/filter.ts";
import type { EmbeddingStatus, JsonObject, JsonValue, Microseconds } from "../../src/memory/model/memory.ts";

/** The parts of a row that a filter reads; reserved keys are part of `metadata` and may hold anything. */
export interface FilteredRow {
  readonly id: string;
  readonly metadata: JsonObject;
  readonly createTime: Microseconds;
  readonly updateTime: Microseconds;
  readonly state: EmbeddingStatus["state"];
}

/** Evaluates a filter in TypeScript, as the reference for the SQL. */
export function passesFilter(row: FilteredRow, filter: Filter): boolean {
  const { source, importance, tags } = row.metadata;
  const hasTag = (tag: string) => Array.isArray(tags) && tags.includes(tag);
  switch (filter.kind) {
    case "all_of":
      return filter.filters.every((inner) => passesFilter(row, inner));
    case "any_of":
      return filter.filters.some((inner) => passesFilter(row, inner));
    case "none_of":
      return !filter.filters.some((inner) => passesFilter(row, inner));
    case "ids":
      return filter.ids.includes(row.id);
    case "sources":
      return filter.sources.includes(typeof source === "string" ? source : "");
    case "tags_any":
      return filter.tags.some(hasTag);
    case "tags_all":
      return filter.tags.every(hasTag);
    case "importance":
      return isNumberIn(importance, filter.range);
    case "create_time":
      return isTimeIn(row.createTime, filter.range);
    case "update_time":
      return isTimeIn(row.updateTime, filter.range);
    case "metadata":
      return passesTest(valueAt(row.metadata, filter.path), filter.test);
    case "embedding_state":
      return row.state === filter.state;
  }
}

function passesTest(value: JsonValue | undefined, test: MetadataTest): boolean {
  switch (test.kind) {
    case "exists":
      return (value !== undefined) === test.exists;
    case "one_of":
      return (
        value !== undefined && test.values.some((other) => isDeepStrictEqual(plain(value), plain(other)))
      );
    case "contains":
      return Array.isArray(value) && value.some((element) => plain(element) === plain(test.element));
    case "range":
      return isNumberIn(value, test.range);
    case "prefix":
      return typeof value === "string" && value.startsWith(test.prefix);
  }
}

/** Removes the sign of zero, which JSON does not have. */
function plain<T extends JsonValue>(value: T): T {
  return typeof value === "object" && value !== null
    ? (JSON.parse(JSON.stringify(value)) as T)
    : Object.is(value, -0)
      ? (0 as T)
      : value;
}

function valueAt(object: JsonObject, path: readonly string[]): JsonValue | undefined {
  let value: JsonValue | undefined = object;
  for (const key of path) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    const members = value as JsonObject;
    value = Object.hasOwn(members, key) ? members[key] : undefined;
  }
  return value;
}

function isNumberIn(value: JsonValue | undefined, { gte, gt, lte, lt }: NumberRange): boolean {
  return (
    typeof value === "number" &&
    (gte === undefined || value >= gte) &&
    (gt === undefined || value > gt) &&
    (lte === undefined || value <= lte) &&
    (lt === undefined || value < lt)
  );
}

function isTimeIn(time: Microseconds, { start, end }: TimeRange): boolean {
  return (start === undefined || time >= start) && (end === undefined || time < end);
}
