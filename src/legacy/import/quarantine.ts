import { closeSync, openSync, readSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { join } from "node:path";
import { expireTimeOf } from "../convert/convert-time.ts";
import { CHUNKS_FILE, ORPHANED } from "../readers/inspect-vectors.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { CHECKPOINTS, type LegacyRow, MEMORIES, VERSIONS } from "../readers/read-database.ts";
import { decodeText, valueToJson } from "../readers/stored-value.ts";

/** Kinds of old data that do not become a memory. */
export type QuarantineKind =
  /** A chunk of an earlier text of a memory. */
  | "tombstone"
  /** A chunk of a memory that no longer exists. */
  | "orphan-chunk"
  /** A chunk that missed an update of its memory, with the text that searches continued to find. */
  | "stale-chunk"
  /** A part of the file of chunks after its damage. */
  | "unread"
  /** An earlier state of a memory, and a checkpoint. Only the fork has them. */
  | "version"
  | "checkpoint"
  /** An expired memory. Only the fork has them. */
  | "expired"
  /** A row of an unknown table. */
  | "row";

export type QuarantineCounts = Readonly<Record<QuarantineKind, number>>;

/** Number of characters that are collected before they are written. */
const BLOCK_LENGTH = 256 * 1024;
/** Maximum number of unreadable bytes in one entry. */
const MAX_UNREAD_BYTES = 1024 * 1024;

/**
 * Counts everything in the old data that is not a live memory. If a path is given, writes it there atomically, one JSON
 * object per line.
 *
 * @param now the time in microseconds that decides which memories have expired
 */
export async function quarantine(
  source: LegacySource,
  path: string | undefined,
  now: bigint,
): Promise<QuarantineCounts> {
  const counts = {
    tombstone: 0,
    "orphan-chunk": 0,
    "stale-chunk": 0,
    unread: 0,
    version: 0,
    checkpoint: 0,
    expired: 0,
    row: 0,
  } satisfies Record<QuarantineKind, number>;
  if (path === undefined) {
    for (const { kind } of entries(source, now)) counts[kind]++;
    return counts;
  }
  const draft = `${path}.new`;
  {
    await using file = await open(draft, "w");
    let block = "";
    for (const entry of entries(source, now)) {
      counts[entry.kind]++;
      block += `${JSON.stringify(entry)}\n`;
      if (block.length < BLOCK_LENGTH) continue;
      await file.writeFile(block);
      block = "";
    }
    await file.writeFile(block);
    await file.sync();
  }
  await rename(draft, path);
  return counts;
}

interface Entry {
  readonly kind: QuarantineKind;
  readonly [member: string]: unknown;
}

function* entries(
  { path, vectors, scratch, database }: LegacySource,
  now: bigint,
): Generator<Entry, void, undefined> {
  const chunks = (where: string) =>
    scratch
      .prepare(
        `select c.row, c.key, c.content, c.json,
          (select m.key from memory m where m.created_at = c.meta_created_at limit 1) as linked
        from chunk c where ${where} order by c.row`,
      )
      .iterate();
  const chunk = (kind: QuarantineKind, row: Record<string, unknown>): Entry => {
    const key = row.key ?? row.linked;
    return {
      kind,
      memory_id: typeof key === "string" ? JSON.parse(key) : null,
      content: row.content,
      row: row.row,
      // The original text, because JSON cannot express all of Python's JSON.
      original: row.json,
    };
  };
  for (const row of chunks("c.key is null")) yield chunk("tombstone", row);
  for (const row of chunks(ORPHANED)) yield chunk("orphan-chunk", row);
  for (const row of chunks("exists (select 1 from memory m where m.key = c.key and m.stale = 'text')")) {
    yield chunk("stale-chunk", row);
  }
  if (vectors.unreadFrom !== undefined) yield* unread(join(path, CHUNKS_FILE), vectors.unreadFrom);
  for (const table of database.otherTables) {
    const kind = table === VERSIONS ? "version" : table === CHECKPOINTS ? "checkpoint" : "row";
    for (const row of database.rows(table)) yield rowEntry(kind, row, kind === "row" ? { table } : {});
  }
  for (const row of database.columns.includes("expires_at") ? database.rows(MEMORIES) : []) {
    const end = expireTimeOf(row);
    if (end !== undefined && end <= now) yield rowEntry("expired", row, {});
  }
}

function* unread(path: string, from: number): Generator<Entry, void, undefined> {
  const file = openSync(path, "r");
  try {
    const buffer = Buffer.alloc(MAX_UNREAD_BYTES);
    for (let at = from; ; at += MAX_UNREAD_BYTES) {
      const bytes = buffer.subarray(0, readSync(file, buffer, 0, MAX_UNREAD_BYTES, at));
      const content = decodeText({ type: "text", bytes }).text;
      // Skip a piece that contains only punctuation.
      if (/[^\s,\]}]/.test(content)) {
        yield {
          kind: "unread",
          file: CHUNKS_FILE,
          byte: at,
          content,
          original: valueToJson({ type: "blob", bytes }),
        };
      }
      if (bytes.length < MAX_UNREAD_BYTES) return;
    }
  } finally {
    closeSync(file);
  }
}

function rowEntry(kind: QuarantineKind, row: LegacyRow, extra: Readonly<Record<string, unknown>>): Entry {
  const { memory_id, id = null, content } = row;
  return {
    kind,
    ...extra,
    ...(kind === "version" || kind === "expired" ? { memory_id: decodeText(memory_id ?? id).text } : {}),
    ...(content === undefined ? {} : { content: decodeText(content).text }),
    original: Object.fromEntries(Object.entries(row).map(([column, value]) => [column, valueToJson(value)])),
  };
}
