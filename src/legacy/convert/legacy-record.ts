import { LIMITS } from "../../memory/model/limits.ts";
import type { JsonObject, JsonValue } from "../../memory/model/memory.ts";
import { isSameValue, type StoredValue, valueFromJson, valueToJson } from "../readers/stored-value.ts";

/**
 * The key of a memory's metadata under which it keeps what it cannot say itself about the row it comes from
 * (docs/legacy-import.md).
 */
export const LEGACY_KEY = "legacy_import";

/** What is kept beside an imported memory, so that its old row can be made again bit for bit. */
export interface LegacyRecord {
  /** The import that brought it, or brought it up to date. */
  readonly run: string;
  /** `version` of the memory as it was brought: with another one it has been changed since. */
  readonly version: number;
  /** Of the old row; tells whether that has changed since. */
  readonly sha256: string;
  /** Whether the row has the columns of the fork. */
  readonly fork: boolean;
  /** Values that do not follow from the fields of the memory, by column, as `valueToJson` makes them. */
  readonly columns: JsonObject;
}

/** Reads the record out of a memory's metadata; undefined if there is none, or something else. */
export function readLegacyRecord(metadata: JsonObject): LegacyRecord | undefined {
  const found = Object.hasOwn(metadata, LEGACY_KEY) ? metadata[LEGACY_KEY] : undefined;
  if (!isObject(found)) return undefined;
  const { run, version, sha256, fork = false, columns } = found;
  return typeof run === "string" &&
    typeof version === "number" &&
    typeof sha256 === "string" &&
    typeof fork === "boolean" &&
    isObject(columns)
    ? { run, version, sha256, fork, columns }
    : undefined;
}

/** Metadata with the record. */
export function withRecord(metadata: JsonObject, record: LegacyRecord): JsonObject {
  const { fork, ...rest } = record;
  return { ...metadata, [LEGACY_KEY]: { ...rest, ...(fork ? { fork } : {}) } };
}

export function withoutRecord(metadata: JsonObject): JsonObject {
  const { [LEGACY_KEY]: _, ...rest } = metadata;
  return rest;
}

/** The columns whose values `derived` does not say. */
export function columnsToKeep(
  row: Readonly<Record<string, StoredValue>>,
  derived: Readonly<Record<string, StoredValue>>,
): JsonObject {
  const kept = Object.entries(row).filter(
    ([column, value]) => !Object.hasOwn(derived, column) || !isSameValue(value, derived[column] ?? null),
  );
  return Object.fromEntries(kept.map(([column, value]) => [column, valueToJson(value)]));
}

/** The row again. @throws TypeError if the columns are not those of a record. */
export function rowFrom(
  columns: JsonObject,
  derived: Readonly<Record<string, StoredValue>>,
): Record<string, StoredValue> {
  const kept = Object.entries(columns).map(([column, value]) => [column, valueFromJson(value)] as const);
  return { ...derived, ...Object.fromEntries(kept) };
}

/** Levels of metadata that are kept as such: as many as callers may use. */
export const METADATA_LEVELS = LIMITS.metadataDepth;

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
