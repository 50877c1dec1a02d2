import type {
  FilterList,
  Filter as FilterMessage,
} from "memory-service-client/memoryservice/v1/filter_pb.js";
import { Memory_Embedding_State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { FieldViolation } from "../../../memory/model/errors.ts";
import type { Filter } from "../../../memory/model/filter.ts";
import { LIMITS } from "../../../memory/model/limits.ts";
import type { EmbeddingStatus } from "../../../memory/model/memory.ts";
import { readMetadata } from "./filter-metadata.ts";
import { readNumberRange, readTimeRange } from "./filter-ranges.ts";
import { createFilterReader, type FilterReader, stringProblem } from "./filter-reader.ts";

/**
 * Converts a filter. `path` is the path of its field in the request.
 *
 * @param violations receives the violations, each with its path such as `filter.all_of.filters[1].metadata.path`
 * @returns undefined if the filter has violations
 */
export function filterFromMessage(
  message: FilterMessage,
  path: string,
  violations: FieldViolation[],
): Filter | undefined {
  const reader = createFilterReader();
  const filter = readFilter(reader, message, path, 1);
  violations.push(...reader.violations);
  return reader.violations.length === 0 ? filter : undefined;
}

function readFilter(
  reader: FilterReader,
  { condition }: FilterMessage,
  path: string,
  depth: number,
): Filter | undefined {
  if (depth > LIMITS.filterDepth) {
    reader.report(path, `must be at most ${LIMITS.filterDepth} levels deep, is deeper`);
    return undefined;
  }
  switch (condition.case) {
    case "allOf":
      return { kind: "all_of", filters: readFilters(reader, condition.value, `${path}.all_of`, depth) };
    case "anyOf":
      return { kind: "any_of", filters: readFilters(reader, condition.value, `${path}.any_of`, depth) };
    case "noneOf":
      return { kind: "none_of", filters: readFilters(reader, condition.value, `${path}.none_of`, depth) };
  }
  if (!reader.countCondition(path)) return undefined;
  switch (condition.case) {
    case "ids":
      return { kind: "ids", ids: readStrings(reader, condition.value.values, `${path}.ids`) };
    case "sources":
      return { kind: "sources", sources: readStrings(reader, condition.value.values, `${path}.sources`) };
    case "tagsAny":
      return { kind: "tags_any", tags: readStrings(reader, condition.value.values, `${path}.tags_any`) };
    case "tagsAll":
      return { kind: "tags_all", tags: readStrings(reader, condition.value.values, `${path}.tags_all`) };
    case "importance":
      return { kind: "importance", range: readNumberRange(reader, condition.value, `${path}.importance`) };
    case "createTime":
      return { kind: "create_time", range: readTimeRange(reader, condition.value, `${path}.create_time`) };
    case "updateTime":
      return { kind: "update_time", range: readTimeRange(reader, condition.value, `${path}.update_time`) };
    case "metadata":
      return readMetadata(reader, condition.value, `${path}.metadata`);
    case "embeddingState": {
      const state = stateOf[condition.value];
      if (state === undefined) {
        reader.report(`${path}.embedding_state`, `must be one of 1, 2, 3, got ${condition.value}`);
      }
      return state && { kind: "embedding_state", state };
    }
    default:
      reader.report(path, "must have a condition");
      return undefined;
  }
}

function readFilters(
  reader: FilterReader,
  { filters }: FilterList,
  path: string,
  depth: number,
): readonly Filter[] {
  if (!reader.isCount(filters, LIMITS.filterConditions, `${path}.filters`)) return [];
  return filters
    .map((filter, index) => readFilter(reader, filter, `${path}.filters[${index}]`, depth + 1))
    .filter((filter) => filter !== undefined);
}

function readStrings(reader: FilterReader, values: readonly string[], path: string): readonly string[] {
  if (!reader.isCount(values, LIMITS.filterValues, `${path}.values`)) return [];
  for (const [index, value] of values.entries())
    reader.report(`${path}.values[${index}]`, stringProblem(value));
  return values;
}

const stateOf: Readonly<Record<number, EmbeddingStatus["state"]>> = {
  [Memory_Embedding_State.PENDING]: "pending",
  [Memory_Embedding_State.READY]: "ready",
  [Memory_Embedding_State.FAILED]: "failed",
};
