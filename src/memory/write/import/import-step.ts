import { ServiceError } from "../../model/errors.ts";
import { structBytes, textBytes } from "../../read/message-size.ts";
import type { BadRecord, ImportedRecord } from "./import-record.ts";

/** Limits of one transaction. It takes at most about a second, because the embedded engine has a single connection. */
const STEP = { records: 500, bytes: 1024 * 1024, vectors: 100 } as const;

/** One record of an import. */
export interface ImportItem {
  /** Position among the records, from 0. */
  readonly index: number;
  readonly id: string;
  /** The record; the error of an invalid record; or "expired". */
  readonly content: ImportedRecord | ServiceError | "expired";
}

export interface RecordItem extends ImportItem {
  readonly content: ImportedRecord;
}

/** Collects the items that one transaction stores. */
export interface ImportStep {
  readonly items: readonly ImportItem[];
  /**
   * Returns whether the item fits. The first item always does. Two records with the same id never share a step, because
   * the later one has to find the earlier one.
   */
  fits(item: ImportItem): boolean;
  add(item: ImportItem): void;
}

export function createImportStep(): ImportStep {
  const items: ImportItem[] = [];
  const keys = new Set<string>();
  let bytes = 0;
  let vectors = 0;
  return {
    items,
    fits(item) {
      if (items.length >= STEP.records || bytes >= STEP.bytes || vectors >= STEP.vectors) return false;
      return !isRecordItem(item) || !keys.has(keyOf(item.content));
    },
    add(item) {
      items.push(item);
      if (!isRecordItem(item)) return;
      keys.add(keyOf(item.content));
      bytes += recordBytes(item.content);
      vectors += item.content.chunks?.length ?? 0;
    },
  };
}

export function itemFromRecord(record: ImportedRecord | BadRecord, index: number): ImportItem {
  const { id } = record;
  if ("error" in record) return { index, id, content: record.error };
  const { expiry } = record;
  const isExpired = expiry.kind === "at" && expiry.time <= BigInt(Date.now()) * 1_000n;
  return { index, id, content: isExpired ? "expired" : record };
}

export function isRecordItem(item: ImportItem): item is RecordItem {
  return item.content !== "expired" && !(item.content instanceof ServiceError);
}

/** Counts all texts of a record, since an imported source may be as long as a content. */
function recordBytes({ content, source, tags, metadata }: ImportedRecord): number {
  return [content, source, ...tags].reduce((sum, text) => sum + textBytes(text), structBytes(metadata));
}

/** Domain names contain no space. */
function keyOf({ domain, id }: ImportedRecord): string {
  return `${domain} ${id}`;
}
