import type { Value } from "@bufbuild/protobuf/wkt";
import type { MetadataCondition } from "memory-service-client/memoryservice/v1/filter_pb.js";
import type { Filter, MetadataTest } from "../../../memory/model/filter.ts";
import { LIMITS } from "../../../memory/model/limits.ts";
import { type JsonValue, RESERVED_METADATA_KEYS } from "../../../memory/model/memory.ts";
import { readNumberRange } from "./filter-ranges.ts";
import { type FilterReader, stringProblem } from "./filter-reader.ts";

/** Converts a condition on metadata. */
export function readMetadata(
  reader: FilterReader,
  { path: keys, test }: MetadataCondition,
  path: string,
): Filter | undefined {
  reader.isCount(keys, LIMITS.filterPathKeys, `${path}.path`);
  const reserved = RESERVED_METADATA_KEYS.find((key) => key === keys[0]);
  if (reserved !== undefined) {
    reader.report(`${path}.path[0]`, `must not be "${reserved}", which has a condition of its own`);
  }
  for (const [index, key] of keys.entries()) reader.report(`${path}.path[${index}]`, stringProblem(key));
  const read = readTest(reader, test, path);
  return read && { kind: "metadata", path: keys, test: read };
}

function readTest(
  reader: FilterReader,
  test: MetadataCondition["test"],
  path: string,
): MetadataTest | undefined {
  switch (test.case) {
    case "equals":
      return { kind: "one_of", values: [readValue(reader, test.value, `${path}.equals`, 0)] };
    case "oneOf": {
      const { values } = test.value;
      if (!reader.isCount(values, LIMITS.filterValues, `${path}.one_of.values`)) return undefined;
      return {
        kind: "one_of",
        values: values.map((value, index) => readValue(reader, value, `${path}.one_of.values[${index}]`, 0)),
      };
    }
    case "range":
      return { kind: "range", range: readNumberRange(reader, test.value, `${path}.range`) };
    case "exists":
      return { kind: "exists", exists: test.value };
    case "contains": {
      const element = readValue(reader, test.value, `${path}.contains`, 0);
      if (typeof element !== "object" || element === null) return { kind: "contains", element };
      reader.report(`${path}.contains`, "must be a string, number, bool or null, got a list or an object");
      return undefined;
    }
    case "prefix":
      reader.report(`${path}.prefix`, test.value === "" ? "must not be empty" : stringProblem(test.value));
      return { kind: "prefix", prefix: test.value };
    default:
      reader.report(path, "must have a test: equals, one_of, range, exists, contains or prefix");
      return undefined;
  }
}

/** Converts a JSON value. `level` is the number of lists and objects around it. */
function readValue(reader: FilterReader, { kind }: Value, path: string, level: number): JsonValue {
  switch (kind.case) {
    case "boolValue":
      return kind.value;
    case "numberValue":
      if (!Number.isFinite(kind.value)) reader.report(path, `must be a finite number, got ${kind.value}`);
      return kind.value;
    case "stringValue":
      reader.report(path, stringProblem(kind.value));
      return kind.value;
    case "listValue":
    case "structValue":
      if (level >= LIMITS.metadataDepth) {
        reader.report(path, `must have at most ${LIMITS.metadataDepth} levels, has more`);
        return null;
      }
      return kind.case === "listValue"
        ? kind.value.values.map((item) => readValue(reader, item, path, level + 1))
        : Object.fromEntries(
            Object.entries(kind.value.fields).map(([key, item]) => {
              reader.report(path, stringProblem(key));
              return [key, readValue(reader, item, path, level + 1)];
            }),
          );
    case "nullValue":
      return null;
    default:
      reader.report(path, "must have a value");
      return null;
  }
}
