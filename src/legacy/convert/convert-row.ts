import { MEMORY_ID } from "../../memory/model/limits.ts";
import type { JsonObject, JsonValue, Microseconds } from "../../memory/model/memory.ts";
import { pythonJson } from "../readers/python-json.ts";
import type { LegacyRow } from "../readers/read-database.ts";
import { decodeText, type StoredValue, textValue, valueToJson } from "../readers/stored-value.ts";
import { convertMetadata } from "./convert-metadata.ts";
import { expireTimeOf, timeOf, timeOfId } from "./convert-time.ts";
import { columnsToKeep, type LegacyRecord, rowFrom } from "./legacy-record.ts";
import { generatedId, hashRow } from "./row-ids.ts";

/** The fields of a memory that an old row determines. */
export interface ConvertedFields {
  readonly id: string;
  readonly content: string;
  readonly source: string;
  readonly importance: number | undefined;
  readonly tags: readonly string[];
  /** Metadata without the record of the import. */
  readonly metadata: JsonObject;
  /** Undefined if the row has no valid time. */
  readonly createTime: Microseconds | undefined;
  readonly updateTime: Microseconds | undefined;
  readonly expireTime: Microseconds | undefined;
}

/** An old row, converted to a memory. */
export interface ConvertedRow extends ConvertedFields {
  /** The record of the import, without run and version. */
  readonly record: Pick<LegacyRecord, "sha256" | "fork" | "columns">;
  /** Descriptions of what had to be changed, such as `metadata contains NUL, which becomes U+FFFD`. */
  readonly changes: readonly string[];
}

/**
 * Converts an old row to a memory. With the record, `originalRow` reverses the conversion.
 *
 * @param repeated whether other rows have the same id
 */
export function convertRow(row: LegacyRow, repeated = false): ConvertedRow {
  const changes: string[] = [];
  const id = decodeText(row.id ?? null);
  const validId = id.exact && MEMORY_ID.test(id.text) && !repeated;
  if (repeated) changes.push("several memories have this id; each gets an id derived from its whole row");
  else if (!validId) changes.push("the id is not valid; a new id is derived from it");
  const content = decodeText(row.content ?? null);
  if (!content.exact) changes.push("content contains what PostgreSQL cannot store, which becomes U+FFFD");
  const { metadata, source, importance, tags } = convertMetadata(row, changes);
  const createTime = timeOf(row.created_at) ?? timeOfId(id.text) ?? timeOf(row.updated_at);
  const fields: ConvertedFields = {
    id: validId ? id.text : generatedId(row, repeated),
    content: content.text,
    source,
    importance,
    tags,
    metadata,
    createTime,
    updateTime: timeOf(row.updated_at) ?? createTime,
    expireTime: expireTimeOf(row),
  };
  for (const column of ["created_at", "updated_at"] as const) {
    if (timeOf(row[column]) === undefined) changes.push(`${column} is not a time in the years 1 to 9999`);
  }
  if ((row.expires_at ?? null) !== null && fields.expireTime === undefined) {
    changes.push("expires_at is not a time in the years 1 to 9999; the memory does not expire");
  }
  const fork = Object.hasOwn(row, "tags") && Object.hasOwn(row, "expires_at");
  return {
    ...fields,
    record: { sha256: hashRow(row), fork, columns: columnsToKeep(row, rowFromFields(fields, fork, row)) },
    changes,
  };
}

/** Restores the old row of an imported memory bit for bit, provided that the memory has not been changed since. */
export function originalRow(
  fields: Omit<ConvertedFields, "createTime" | "updateTime" | "expireTime">,
  { fork, columns }: Pick<LegacyRecord, "fork" | "columns">,
): LegacyRow {
  return rowFrom(columns, rowFromFields(fields, fork, rowFrom(columns, {})));
}

/** Returns the same memory under another id. */
export function withId(converted: ConvertedRow, row: LegacyRow, id: string): ConvertedRow {
  if (id === converted.id) return converted;
  const { record } = converted;
  return {
    ...converted,
    id,
    record: { ...record, columns: { ...record.columns, id: valueToJson(row.id ?? null) } },
  };
}

/** Returns the row that follows from the fields alone. */
function rowFromFields(
  {
    id,
    content,
    source,
    importance,
    tags,
    metadata,
  }: Omit<ConvertedFields, "createTime" | "updateTime" | "expireTime">,
  fork: boolean,
  { created_at, updated_at }: LegacyRow,
): Record<string, StoredValue> {
  const all: Record<string, JsonValue> = {
    ...(tags.length > 0 && !fork ? { tags } : {}),
    ...(source === "" ? {} : { source }),
    ...(importance === undefined ? {} : { importance }),
    ...sorted(metadata),
    ...(typeof created_at === "number" && !Object.hasOwn(metadata, "created_at") ? { created_at } : {}),
    ...(typeof updated_at === "number" && !Object.hasOwn(metadata, "updated_at") ? { updated_at } : {}),
  };
  return {
    id: textValue(id),
    content: textValue(content),
    metadata: textValue(pythonJson(all)),
    ...(fork ? { tags: textValue(pythonJson(tags)), expires_at: null } : {}),
  };
}

/** Sorts the keys of an object, because PostgreSQL does not keep their order. */
function sorted(value: JsonObject): JsonObject {
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sortedValue(inner)]));
}

function sortedValue(value: JsonValue): JsonValue {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(sortedValue);
  return sorted(value as JsonObject);
}
