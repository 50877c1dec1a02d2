import { LIMITS } from "../../memory/model/limits.ts";
import type { JsonObject, JsonValue } from "../../memory/model/memory.ts";
import { isSameValue, type StoredValue, valueFromJson, valueToJson } from "../readers/stored-value.ts";

/**
 * The metadata key of an imported memory for what its fields do not express about the old row (see
 * docs/legacy-import.md).
 */
export const LEGACY_KEY = "legacy_import";

/** The record of an import in the metadata of a memory, with which the old row can be restored bit for bit. */
export interface LegacyRecord {
  /** The import run that created or last updated the memory. */
  readonly run: string;
  /** `version` of the memory after the import. A different version means that it has been changed since. */
  readonly version: number;
  /** Hash of the old row, to detect changes in the source. */
  readonly sha256: string;
  /** Whether the row has the columns of the fork. */
  readonly fork: boolean;
  /** Values by column that do not follow from the fields of the memory, as `valueToJson` returns them. */
  readonly columns: JsonObject;
}

/** Reads the record from the metadata of a memory; undefined if there is no valid record. */
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

/** Adds the record to metadata. */
export function withRecord(metadata: JsonObject, record: LegacyRecord): JsonObject {
  const { fork, ...rest } = record;
  return { ...metadata, [LEGACY_KEY]: { ...rest, ...(fork ? { fork } : {}) } };
}

/** Removes the record from metadata. */
export function withoutRecord(metadata: JsonObject): JsonObject {
  const { [LEGACY_KEY]: _, ...rest } = metadata;
  return rest;
}

/** Returns the columns of a row whose values differ from those in `derived`. */
export function columnsToKeep(
  row: Readonly<Record<string, StoredValue>>,
  derived: Readonly<Record<string, StoredValue>>,
): JsonObject {
  const kept = Object.entries(row).filter(
    ([column, value]) => !Object.hasOwn(derived, column) || !isSameValue(value, derived[column] ?? null),
  );
  return Object.fromEntries(kept.map(([column, value]) => [column, valueToJson(value)]));
}

/** Restores a row. @throws TypeError if the columns are not valid. */
export function rowFrom(
  columns: JsonObject,
  derived: Readonly<Record<string, StoredValue>>,
): Record<string, StoredValue> {
  const kept = Object.entries(columns).map(([column, value]) => [column, valueFromJson(value)] as const);
  return { ...derived, ...Object.fromEntries(kept) };
}

/** Maximum nesting of imported metadata, which is that of requests. */
export const METADATA_LEVELS = LIMITS.metadataDepth;

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
