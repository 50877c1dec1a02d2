import type { Memory } from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { JsonObject } from "../../memory/model/memory.ts";
import { type ConvertedRow, renamedId } from "../convert/convert-row.ts";
import { type LegacyRecord, readLegacyRecord, withoutRecord } from "../convert/legacy-record.ts";
import type { LegacyRow } from "../readers/read-database.ts";
import { isSameValue, type StoredValue, textValue, valueFromJson } from "../readers/stored-value.ts";

/** What to do about an id that another memory has in the target. */
export type OnConflict = "skip" | "rename" | "replace";

/** What to do about a row. */
export type RowAction =
  | { readonly kind: "create"; readonly id: string; readonly renamed: boolean }
  /** Brought before, and changed in the source since; or the same but for its times, as what was written to both sides. */
  | { readonly kind: "update"; readonly id: string; readonly over: Memory }
  /** Another memory has the id, or this one was changed on both sides. */
  | { readonly kind: "replace"; readonly id: string; readonly over: Memory }
  /** Its time is over. */
  | { readonly kind: "expired" }
  /** Brought before, or equal to another row of the source in everything. */
  | { readonly kind: "unchanged" }
  /** Brought before, changed in the target since, and not in the source. */
  | { readonly kind: "changed-here"; readonly memory: Memory }
  | { readonly kind: "conflict"; readonly memory: Memory; readonly reason: string };

/** Decides about a row; `found`: the memories of the target by id. */
export function decide(
  row: LegacyRow,
  converted: ConvertedRow,
  found: ReadonlyMap<string, Memory>,
  onConflict: OnConflict,
): RowAction {
  const other = renamedId(row);
  const primary = found.get(converted.id);
  const renamed = found.get(other);
  // Under another name, if its own was taken once.
  for (const memory of [primary, renamed]) {
    const record = memory === undefined ? undefined : legacyRecordOf(memory);
    if (memory !== undefined && record !== undefined && isImportedFrom(row, memory, record)) {
      return chooseReimportAction(converted, memory, record, onConflict, other);
    }
  }
  if (primary === undefined) return { kind: "create", id: converted.id, renamed: false };
  if (saysTheSame(primary, converted)) return { kind: "unchanged" };
  if (differsInTimesOnly(primary, converted)) return { kind: "update", id: primary.id, over: primary };
  if (onConflict === "replace") return { kind: "replace", id: primary.id, over: primary };
  if (onConflict === "rename" && renamed === undefined) return { kind: "create", id: other, renamed: true };
  return { kind: "conflict", memory: primary, reason: "another memory has its id" };
}

function chooseReimportAction(
  converted: ConvertedRow,
  memory: Memory,
  record: LegacyRecord,
  onConflict: OnConflict,
  other: string,
): RowAction {
  const changedHere = memory.version !== BigInt(record.version);
  const changedThere = record.sha256 !== converted.record.sha256;
  if (!changedThere) return changedHere ? { kind: "changed-here", memory } : { kind: "unchanged" };
  if (!changedHere || differsInTimesOnly(memory, converted)) {
    return { kind: "update", id: memory.id, over: memory };
  }
  if (onConflict === "replace") return { kind: "replace", id: memory.id, over: memory };
  if (onConflict === "rename" && memory.id !== other) return { kind: "create", id: other, renamed: true };
  return { kind: "conflict", memory, reason: "it was changed on both sides since it was imported" };
}

export function legacyRecordOf(memory: Memory): LegacyRecord | undefined {
  return readLegacyRecord((memory.metadata ?? {}) as JsonObject);
}

/** Whether a memory was made of a row with this row's id. */
export function isImportedFrom(row: LegacyRow, memory: Memory, record: LegacyRecord): boolean {
  return isSameValue(row.id ?? null, originalId(memory, record));
}

function originalId(memory: Memory, { columns }: LegacyRecord): StoredValue {
  const kept = columns.id;
  return kept === undefined ? textValue(memory.id) : valueFromJson(kept);
}

/** A memory that has come another way, without a record, and says all that the row says. */
function saysTheSame(memory: Memory, converted: ConvertedRow): boolean {
  return (
    converted.changes.length === 0 &&
    differsInTimesOnly(memory, converted) &&
    JSON.stringify(memory.metadata ?? {}) === JSON.stringify(converted.metadata) &&
    microsecondsOf(memory.createTime) === converted.createTime &&
    microsecondsOf(memory.updateTime) === converted.updateTime
  );
}

/** Whether it differs in nothing but in when it was stored and changed, as what the adapter has written to both sides. */
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

/** Of a time of the contract. */
export function microsecondsOf(time: { readonly seconds: bigint; readonly nanos: number } | undefined) {
  return time === undefined ? undefined : time.seconds * 1_000_000n + BigInt(Math.floor(time.nanos / 1_000));
}
