import { decodeText } from "../readers/stored-value.ts";
import type { ImportItem } from "./import-item.ts";

/** Numbers of old memories by outcome. */
export interface ImportCounts {
  created: number;
  /** Imported before and changed in the source since. */
  updated: number;
  /** Imported before and not changed since. */
  unchanged: number;
  /** Imported before and changed in the target since; not overwritten. */
  changedHere: number;
  /** Created under another id because theirs was taken. Included in `created`. */
  renamed: number;
  /** Stored in place of a different memory, which is kept in the directory of the run. */
  replaced: number;
  /** Skipped because a different memory has their id. */
  conflicts: number;
  /** Skipped because they have expired. */
  expired: number;
  /** Skipped because the domain stores each content once and already has theirs. */
  duplicates: number;
  rejected: number;
  /** Contain something that PostgreSQL or JSON cannot store; the record of the import keeps the original. */
  altered: number;
  /** Stored with the embeddings of the old server. */
  reused: number;
}

/** Something about one memory that the user should know. */
export interface Detail {
  /** Id in the source. */
  readonly id: string;
  readonly what:
    | "altered"
    | "renamed"
    | "replaced"
    | "conflict"
    | "changed-here"
    | "expired"
    | "duplicate"
    | "rejected";
  readonly detail: string;
  /** Id in the target, if it differs. */
  readonly memory?: string;
}

export function zeroCounts(): ImportCounts {
  return {
    created: 0,
    updated: 0,
    unchanged: 0,
    changedHere: 0,
    renamed: 0,
    replaced: 0,
    conflicts: 0,
    expired: 0,
    duplicates: 0,
    rejected: 0,
    altered: 0,
    reused: 0,
  };
}

/** Counts a row that is not stored, and adds the details of any row. */
export function recordAction(item: ImportItem, counts: ImportCounts, details: Detail[]): void {
  const { action, converted } = item;
  const id = sourceId(item);
  switch (action.kind) {
    case "expired":
      counts.expired++;
      details.push({ id, what: "expired", detail: "it has expired" });
      return;
    case "unchanged":
      counts.unchanged++;
      return;
    case "changed-here":
      counts.changedHere++;
      details.push({
        id,
        what: "changed-here",
        detail: "it was changed in the target and is kept there",
        memory: action.memory.id,
      });
      return;
    case "conflict":
      counts.conflicts++;
      details.push({ id, what: "conflict", detail: action.reason, memory: action.memory.id });
      return;
    case "create":
      if (action.renamed) {
        details.push({ id, what: "renamed", detail: "a different memory has its id", memory: action.id });
      }
      break;
    case "replace":
      details.push({
        id,
        what: "replaced",
        detail: "the replaced memory is in replaced.jsonl",
        memory: action.id,
      });
      break;
    case "update":
      break;
  }
  for (const detail of converted.changes) details.push({ id, what: "altered", detail });
}

/** Counts a row that is stored. */
export function countStored(counts: ImportCounts, { action, converted }: ImportItem): void {
  if (action.kind === "create") counts.created++;
  if (action.kind === "create" && action.renamed) counts.renamed++;
  if (action.kind === "update") counts.updated++;
  if (action.kind === "replace") counts.replaced++;
  if (converted.changes.length > 0) counts.altered++;
}

/** Returns the id of a row in the source, as text. */
export function sourceId({ row }: ImportItem): string {
  return decodeText(row.id ?? null).text;
}
