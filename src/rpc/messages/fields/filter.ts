import type { Timestamp, Value } from "@bufbuild/protobuf/wkt";
import type {
  FilterList,
  Filter as FilterMessage,
  MetadataCondition,
  NumberRange as NumberRangeMessage,
  TimeRange as TimeRangeMessage,
} from "memory-service-client/memoryservice/v1/filter_pb.js";
import { Memory_Embedding_State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { FieldViolation } from "../../../memory/model/errors.ts";
import type { Filter, MetadataTest, NumberRange, TimeRange } from "../../../memory/model/filter.ts";
import { LIMITS } from "../../../memory/model/limits.ts";
import {
  type EmbeddingStatus,
  type JsonValue,
  type Microseconds,
  RESERVED_METADATA_KEYS,
} from "../../../memory/model/memory.ts";
import { all, charactersAtMost, storableText } from "../validate.ts";
import { isTimestamp, microsecondsFromTimestamp } from "./time.ts";

/** What is wrong with a large filter need not be told to the last of its parts. */
const MAX_VIOLATIONS = 100;

const stringProblem = all(storableText, charactersAtMost(LIMITS.filterStringLength));

/**
 * Reads a filter. `path` is that of its field in the request.
 *
 * @param violations gets what is wrong, each by its path: `filter.all_of.filters[1].metadata.path`
 * @returns undefined if anything is
 */
export function filterFromMessage(
  message: FilterMessage,
  path: string,
  violations: FieldViolation[],
): Filter | undefined {
  const reader = createReader();
  const filter = reader.readFilter(message, path, 1);
  violations.push(...reader.violations);
  return reader.violations.length === 0 ? filter : undefined;
}

/** Its functions report what is wrong; what they return is of use only if nothing is. */
function createReader() {
  const violations: FieldViolation[] = [];
  let conditions = 0;

  function report(field: string, description: string | undefined): void {
    if (description !== undefined && violations.length < MAX_VIOLATIONS)
      violations.push({ field, description });
  }

  function readFilter({ condition }: FilterMessage, path: string, depth: number): Filter | undefined {
    if (depth > LIMITS.filterDepth) {
      report(path, `must be at most ${LIMITS.filterDepth} levels deep, is deeper`);
      return undefined;
    }
    switch (condition.case) {
      case "allOf":
        return { kind: "all_of", filters: readFilters(condition.value, `${path}.all_of`, depth) };
      case "anyOf":
        return { kind: "any_of", filters: readFilters(condition.value, `${path}.any_of`, depth) };
      case "noneOf":
        return { kind: "none_of", filters: readFilters(condition.value, `${path}.none_of`, depth) };
    }
    conditions++;
    if (conditions > LIMITS.filterConditions) {
      // Told once, and the rest is not read: 4 MiB have room for a million conditions.
      if (conditions === LIMITS.filterConditions + 1) {
        report(path, `must not be there, the filter has more than ${LIMITS.filterConditions} conditions`);
      }
      return undefined;
    }
    switch (condition.case) {
      case "ids":
        return { kind: "ids", ids: readStrings(condition.value.values, `${path}.ids`) };
      case "sources":
        return { kind: "sources", sources: readStrings(condition.value.values, `${path}.sources`) };
      case "tagsAny":
        return { kind: "tags_any", tags: readStrings(condition.value.values, `${path}.tags_any`) };
      case "tagsAll":
        return { kind: "tags_all", tags: readStrings(condition.value.values, `${path}.tags_all`) };
      case "importance":
        return { kind: "importance", range: readNumberRange(condition.value, `${path}.importance`) };
      case "createTime":
        return { kind: "create_time", range: readTimeRange(condition.value, `${path}.create_time`) };
      case "updateTime":
        return { kind: "update_time", range: readTimeRange(condition.value, `${path}.update_time`) };
      case "metadata":
        return readMetadata(condition.value, `${path}.metadata`);
      case "embeddingState": {
        const state = stateOf[condition.value];
        if (state === undefined) {
          report(`${path}.embedding_state`, `must be one of 1, 2, 3, is ${condition.value}`);
        }
        return state && { kind: "embedding_state", state };
      }
      default:
        report(path, "must have a condition");
        return undefined;
    }
  }

  function readFilters({ filters }: FilterList, path: string, depth: number): readonly Filter[] {
    if (!isCount(filters, LIMITS.filterConditions, `${path}.filters`)) return [];
    return filters
      .map((filter, index) => readFilter(filter, `${path}.filters[${index}]`, depth + 1))
      .filter((filter) => filter !== undefined);
  }

  function readMetadata({ path: keys, test }: MetadataCondition, path: string): Filter | undefined {
    isCount(keys, LIMITS.filterPathKeys, `${path}.path`);
    const reserved = RESERVED_METADATA_KEYS.find((key) => key === keys[0]);
    if (reserved !== undefined) {
      report(`${path}.path[0]`, `must not be "${reserved}", which has a condition of its own`);
    }
    for (const [index, key] of keys.entries()) report(`${path}.path[${index}]`, stringProblem(key));
    const read = readTest(test, path);
    return read && { kind: "metadata", path: keys, test: read };
  }

  function readTest(test: MetadataCondition["test"], path: string): MetadataTest | undefined {
    switch (test.case) {
      case "equals":
        return { kind: "one_of", values: [readValue(test.value, `${path}.equals`, 0)] };
      case "oneOf": {
        const { values } = test.value;
        if (!isCount(values, LIMITS.filterValues, `${path}.one_of.values`)) return undefined;
        return {
          kind: "one_of",
          values: values.map((value, index) => readValue(value, `${path}.one_of.values[${index}]`, 0)),
        };
      }
      case "range":
        return { kind: "range", range: readNumberRange(test.value, `${path}.range`) };
      case "exists":
        return { kind: "exists", exists: test.value };
      case "contains": {
        const element = readValue(test.value, `${path}.contains`, 0);
        if (typeof element !== "object" || element === null) return { kind: "contains", element };
        report(`${path}.contains`, "must be a string, number, bool or null, is a list or an object");
        return undefined;
      }
      case "prefix":
        report(`${path}.prefix`, test.value === "" ? "must not be empty" : stringProblem(test.value));
        return { kind: "prefix", prefix: test.value };
      default:
        report(path, "must have a test: equals, one_of, range, exists, contains or prefix");
        return undefined;
    }
  }

  function readStrings(values: readonly string[], path: string): readonly string[] {
    if (!isCount(values, LIMITS.filterValues, `${path}.values`)) return [];
    for (const [index, value] of values.entries()) report(`${path}.values[${index}]`, stringProblem(value));
    return values;
  }

  /** `level`: how many lists and objects it lies in. */
  function readValue({ kind }: Value, path: string, level: number): JsonValue {
    switch (kind.case) {
      case "boolValue":
        return kind.value;
      case "numberValue":
        if (!Number.isFinite(kind.value)) report(path, `must be a finite number, is ${kind.value}`);
        return kind.value;
      case "stringValue":
        report(path, stringProblem(kind.value));
        return kind.value;
      case "listValue":
      case "structValue":
        if (level >= LIMITS.metadataDepth) {
          report(path, `must have at most ${LIMITS.metadataDepth} levels, has more`);
          return null;
        }
        return kind.case === "listValue"
          ? kind.value.values.map((item) => readValue(item, path, level + 1))
          : Object.fromEntries(
              Object.entries(kind.value.fields).map(([key, item]) => {
                report(path, stringProblem(key));
                return [key, readValue(item, path, level + 1)];
              }),
            );
      case "nullValue":
        return null;
      default:
        report(path, "must have a value");
        return null;
    }
  }

  function readNumberRange({ gte, gt, lte, lt }: NumberRangeMessage, path: string): NumberRange {
    for (const [name, bound] of Object.entries({ gte, gt, lte, lt })) {
      if (Number.isNaN(bound)) report(`${path}.${name}`, "must not be NaN");
    }
    const lower = gte ?? gt;
    const upper = lte ?? lt;
    if (lower === undefined && upper === undefined) {
      report(path, "must have a bound: gte, gt, lte or lt");
    } else if (gte !== undefined && gt !== undefined) {
      report(path, "must not have both gte and gt");
    } else if (lte !== undefined && lt !== undefined) {
      report(path, "must not have both lte and lt");
    } else if (lower !== undefined && upper !== undefined && lower > upper) {
      report(path, `must not begin above its end, is from ${lower} to ${upper}`);
    }
    return { gte, gt, lte, lt };
  }

  function readTimeRange({ startTime, endTime }: TimeRangeMessage, path: string): TimeRange {
    const start = readTime(startTime, `${path}.start_time`);
    const end = readTime(endTime, `${path}.end_time`);
    if (startTime === undefined && endTime === undefined) {
      report(path, "must have a bound: start_time or end_time");
    } else if (start !== undefined && end !== undefined && start >= end) {
      report(path, "must have its start_time before its end_time, by at least a microsecond");
    }
    return { start, end };
  }

  function readTime(time: Timestamp | undefined, path: string): Microseconds | undefined {
    if (time === undefined) return undefined;
    if (isTimestamp(time)) {
      return microsecondsFromTimestamp(time);
    }
    report(path, "must be a time in the years 1 to 9999");
    return undefined;
  }

  function isCount(values: readonly unknown[], max: number, path: string): boolean {
    const fits = values.length >= 1 && values.length <= max;
    if (!fits) report(path, `must have 1 to ${max} entries, has ${values.length}`);
    return fits;
  }

  return { readFilter, violations };
}

const stateOf: Readonly<Record<number, EmbeddingStatus["state"]>> = {
  [Memory_Embedding_State.PENDING]: "pending",
  [Memory_Embedding_State.READY]: "ready",
  [Memory_Embedding_State.FAILED]: "failed",
};
