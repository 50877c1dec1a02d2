import type { Memory } from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { JsonObject } from "../../memory/model/memory.ts";
import { microsecondsFromTimestamp } from "../../util/proto-time.ts";
import type { ConvertedRow } from "../convert/convert-row.ts";
import { type LegacyRecord, readLegacyRecord, withoutRecord } from "../convert/legacy-record.ts";
import { renamedId } from "../convert/row-ids.ts";
import type { LegacyRow } from "../readers/read-database.ts";
import { isSameValue, type StoredValue, textValue, valueFromJson } from "../readers/stored-value.ts";

/** What to do if a different memory has the same id in the target. */
export type OnConflict = "skip" | "rename" | "replace";

/** What an import does with a row. */
export type RowAction =
  | { readonly kind: "create"; readonly id: string; readonly renamed: boolean }
  /** Imported before and changed in the source since, or equal except for its times, as after a dual write. */
  | { readonly kind: "update"; readonly id: string; readonly existing: Memory }
  /** A different memory has the id, or the memory was changed on both sides. */
  | { readonly kind: "replace"; readonly id: string; readonly existing: Memory }
  /** The row has expired. */
  | { readonly kind: "expired" }
  /** Imported before, or identical to another row of the source. */
  | { readonly kind: "unchanged" }
  /** Imported before and changed only in the target since. */
  | { readonly kind: "changed-here"; readonly memory: Memory }
  | { readonly kind: "conflict"; readonly memory: Memory; readonly reason: string };

/** Chooses the action for a row. `found` holds the memories of the target by id. */
export function chooseAction(
  row: LegacyRow,
  converted: ConvertedRow,
  found: ReadonlyMap<string, Memory>,
  onConflict: OnConflict,
): RowAction {
  const alternativeId = renamedId(row);
  const primary = found.get(converted.id);
  const renamed = found.get(alternativeId);
  // An earlier import may have stored the row under the alternative id.
  for (const memory of [primary, renamed]) {
    const record = memory === undefined ? undefined : legacyRecordOf(memory);
    if (memory !== undefined && record !== undefined && isImportedFrom(row, memory, record)) {
      return chooseReimportAction(converted, memory, record, onConflict, alternativeId);
    }
  }
  if (primary === undefined) return { kind: "create", id: converted.id, renamed: false };
  if (isEqual(primary, converted)) return { kind: "unchanged" };
  if (differsInTimesOnly(primary, converted)) return { kind: "update", id: primary.id, existing: primary };
  if (onConflict === "replace") return { kind: "replace", id: primary.id, existing: primary };
  if (onConflict === "rename" && renamed === undefined)
    return { kind: "create", id: alternativeId, renamed: true };
  return { kind: "conflict", memory: primary, reason: "a different memory has its id" };
}

function chooseReimportAction(
  converted: ConvertedRow,
  memory: Memory,
  record: LegacyRecord,
  onConflict: OnConflict,
  alternativeId: string,
): RowAction {
  const changedInTarget = memory.version !== BigInt(record.version);
  const changedInSource = record.sha256 !== converted.record.sha256;
  if (!changedInSource) return changedInTarget ? { kind: "changed-here", memory } : { kind: "unchanged" };
  if (!changedInTarget || differsInTimesOnly(memory, converted)) {
    return { kind: "update", id: memory.id, existing: memory };
  }
  if (onConflict === "replace") return { kind: "replace", id: memory.id, existing: memory };
  if (onConflict === "rename" && memory.id !== alternativeId)
    return { kind: "create", id: alternativeId, renamed: true };
  return { kind: "conflict", memory, reason: "it was changed on both sides since the import" };
}

/** Reads the record of the import from a memory. */
export function legacyRecordOf(memory: Memory): LegacyRecord | undefined {
  return readLegacyRecord((memory.metadata ?? {}) as JsonObject);
}

/** Whether a memory was imported from a row with the id of this row. */
export function isImportedFrom(row: LegacyRow, memory: Memory, record: LegacyRecord): boolean {
  return isSameValue(row.id ?? null, originalId(memory, record));
}

function originalId(memory: Memory, { columns }: LegacyRecord): StoredValue {
  const kept = columns.id;
  return kept === undefined ? textValue(memory.id) : valueFromJson(kept);
}

/** Whether a memory without a record, which was stored in another way, equals the converted row. */
function isEqual(memory: Memory, converted: ConvertedRow): boolean {
  return (
    converted.changes.length === 0 &&
    differsInTimesOnly(memory, converted) &&
    JSON.stringify(memory.metadata ?? {}) === JSON.stringify(converted.metadata) &&
    microsecondsOf(memory.createTime) === converted.createTime &&
    microsecondsOf(memory.updateTime) === converted.updateTime
  );
}

/** Whether a memory differs from the converted row in its times at most, as after a dual write. */
function differsInTimesOnly(memory: Memory, converted: ConvertedRow): boolean {
  return (
    memory.content === converted.content &&
    memory.source === converted.source &&
    memory.importance === converted.importance &&
    JSON.stringify(memory.tags) === JSON.stringify(converted.tags) &&
    JSON.stringify(withoutRecord((memory.metadata ?? {}) as JsonObject)) ===
      JSON.stringify(converted.metadata) &&
    microsecondsOf(memory.expireTime) === converted.expireTime
  );
}

/** Converts an optional time of a message. */
export function microsecondsOf(time: Memory["createTime"]): bigint | undefined {
  return time === undefined ? undefined : microsecondsFromTimestamp(time);
}
