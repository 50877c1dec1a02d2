import type { Memory } from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { JsonObject } from "../../memory/model/memory.ts";
import { type ConvertedRow, originalRow } from "../convert/convert-row.ts";
import { withoutRecord } from "../convert/legacy-record.ts";
import type { LegacyRow } from "../readers/read-database.ts";
import { isSameValue } from "../readers/stored-value.ts";
import { legacyRecordOf, microsecondsOf } from "./choose-action.ts";

/** Returns the columns of the old row that cannot be restored from the memory, bit for bit. */
export function differingColumns(row: LegacyRow, memory: Memory): string[] {
  const record = legacyRecordOf(memory);
  if (record === undefined) return ["record of the import"];
  const metadata = withoutRecord((memory.metadata ?? {}) as JsonObject);
  let restored: LegacyRow;
  try {
    restored = originalRow({ ...memory, importance: memory.importance, metadata }, record);
  } catch {
    return ["record of the import"];
  }
  const columns = new Set([...Object.keys(row), ...Object.keys(restored)]);
  return [...columns].filter(
    (column) =>
      !Object.hasOwn(row, column) ||
      !Object.hasOwn(restored, column) ||
      !isSameValue(row[column] ?? null, restored[column] ?? null),
  );
}

/** Returns the fields of the memory that differ from the converted row. */
export function differingFields(memory: Memory, converted: ConvertedRow): string[] {
  const metadata = withoutRecord((memory.metadata ?? {}) as JsonObject);
  const pairs: Readonly<Record<string, readonly [unknown, unknown]>> = {
    content: [memory.content, converted.content],
    source: [memory.source, converted.source],
    importance: [memory.importance, converted.importance],
    tags: [memory.tags, converted.tags],
    metadata: [sortedJson(metadata), sortedJson(converted.metadata)],
    create_time: [
      microsecondsOf(memory.createTime),
      converted.createTime ?? microsecondsOf(memory.createTime),
    ],
    update_time: [
      microsecondsOf(memory.updateTime),
      converted.updateTime ?? microsecondsOf(memory.updateTime),
    ],
    expire_time: [microsecondsOf(memory.expireTime), converted.expireTime],
  };
  return Object.entries(pairs)
    .filter(
      ([, [actual, expected]]) =>
        String(JSON.stringify(actual, bigintAsText)) !== String(JSON.stringify(expected, bigintAsText)),
    )
    .map(([field]) => field);
}

function sortedJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

function bigintAsText(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
