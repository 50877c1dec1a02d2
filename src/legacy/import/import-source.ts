import { create, type JsonObject } from "@bufbuild/protobuf";
import {
  type EmbeddingVersion,
  type Memory,
  Memory_Embedding_State,
  type MemoryRecord,
  MemoryRecordSchema,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { ConvertedRow } from "../convert/convert-row.ts";
import { convertRow, renamedId, withId } from "../convert/convert-row.ts";
import { withRecord } from "../convert/legacy-record.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { type LegacyRow, MEMORIES } from "../readers/read-database.ts";
import { decodeText } from "../readers/stored-value.ts";
import { decide, type OnConflict, type RowAction } from "./choose-action.ts";
import { findMemories, importRecords, sizeProblem, type TargetDomain, timestampOf } from "./target-domain.ts";

/** What became of the old memories. */
export interface ImportCounts {
  created: number;
  /** Brought before, and changed in the source since. */
  updated: number;
  /** Brought before, and the same. */
  unchanged: number;
  /** Brought before, and changed in the target since: left as they are. */
  changedHere: number;
  /** Of another id, since theirs was taken. Among the created. */
  renamed: number;
  /** In place of another memory, which is kept in the directory of the run. */
  replaced: number;
  /** Left out, since another memory has their id. */
  conflicts: number;
  /** Left out, since their time is over. */
  expired: number;
  /** Left out, since the domain keeps each content once and has theirs. */
  duplicates: number;
  rejected: number;
  /** With something that PostgreSQL or JSON does not hold, kept in the record of the import. */
  altered: number;
  /** With the embeddings of the old system. */
  reused: number;
}

/** Something about one memory that its owner should know. */
export interface Detail {
  /** As it was in the source. */
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
  /** The memory, where that is another id. */
  readonly memory?: string;
}

/** Embeddings of the old system for a row; undefined: to be made anew. */
export type FindEmbedding = (row: LegacyRow, converted: ConvertedRow) => Promise<Float32Array | undefined>;

export interface ImportOptions {
  readonly onConflict: OnConflict;
  readonly run: string;
  /** Undefined: nothing is written, neither to the target nor to files. */
  readonly journal: Journal | undefined;
  /** Rows that are imported; default: all. */
  readonly only?: (row: LegacyRow) => boolean;
  /** Embeddings to take over, and what made them. */
  readonly embeddings?: { readonly version: EmbeddingVersion; readonly find: FindEmbedding };
  readonly onProgress?: (done: number) => void;
  readonly signal: AbortSignal;
}

/** What has to be on the disk before the target is changed, and what is worth telling. */
export interface Journal {
  brought(memories: readonly { readonly id: string; readonly version: number }[]): Promise<void>;
  replaced(memories: readonly Memory[]): Promise<void>;
  details(details: readonly Detail[]): Promise<void>;
}

/** One step: looked up by one call, stored by two at most. */
const STEP = { rows: 200, characters: 1024 * 1024 } as const;

interface Item {
  readonly row: LegacyRow;
  readonly converted: ConvertedRow;
  readonly decision: RowAction;
}

/**
 * Brings the memories of a source into a target. What is there already stays as it is, so that repeating it does what
 * is missing, and no more.
 */
export async function importSource(
  source: LegacySource,
  target: TargetDomain,
  options: ImportOptions,
): Promise<ImportCounts> {
  const { signal, journal } = options;
  const counts: ImportCounts = {
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
  let done = 0;
  for (const rows of steps(source, options.only)) {
    signal.throwIfAborted();
    const details: Detail[] = [];
    const items = await chooseActions(source, rows, target, options);
    for (const item of items) tell(item, counts, details);
    const creates = items.filter(({ decision }) => decision.kind === "create");
    const overwrites = items.filter(({ decision: { kind } }) => kind === "update" || kind === "replace");
    if (journal === undefined) {
      for (const item of [...creates, ...overwrites]) count(counts, item);
    } else {
      await journal.replaced(
        overwrites.flatMap(({ decision }) => ("over" in decision ? [decision.over] : [])),
      );
      await store(creates, false, details);
      await store(overwrites, true, details);
      await journal.details(details);
    }
    done += rows.length;
    options.onProgress?.(done);
  }
  return counts;

  async function store(items: readonly Item[], replace: boolean, details: Detail[]): Promise<void> {
    const sent: Item[] = [];
    const records: MemoryRecord[] = [];
    for (const item of items) {
      const record = await recordFrom(item);
      const problem = sizeProblem(target, record);
      if (problem === undefined) {
        sent.push(item);
        records.push(record);
      } else {
        counts.rejected++;
        details.push({ id: nameOf(item), what: "rejected", detail: problem });
      }
    }
    if (records.length === 0) return;
    await journal?.brought(
      records.map(({ memory }) => ({ id: memory?.id ?? "", version: Number(memory?.version) })),
    );
    const how = { replace, embeddingVersion: options.embeddings?.version };
    const report = await importRecords(target, records, how, signal);
    const failed = new Set<Item>();
    for (const { index, error } of report.rejections) {
      const item = sent[Number(index)];
      if (item === undefined) continue;
      failed.add(item);
      counts.rejected++;
      details.push({ id: nameOf(item), what: "rejected", detail: error?.message ?? "" });
    }
    counts.expired += Number(report.expired);
    if (report.duplicates > 0n) {
      const there = await findMemories(target, sent.map(idOf), signal);
      for (const item of sent) {
        if (failed.has(item) || there.has(idOf(item))) continue;
        failed.add(item);
        counts.duplicates++;
        const detail = "the domain keeps each content once, and has this one";
        details.push({ id: nameOf(item), what: "duplicate", detail });
      }
    }
    for (const [index, item] of sent.entries()) {
      if (failed.has(item)) continue;
      count(counts, item);
      if ((records[index]?.chunks.length ?? 0) > 0) counts.reused++;
    }
  }

  async function recordFrom({ row, converted, decision }: Item): Promise<MemoryRecord> {
    const over = "over" in decision ? decision.over : undefined;
    const version = (over?.version ?? 0n) + 1n;
    const { id, content, source, importance, tags, metadata, record, ...times } = withId(
      converted,
      row,
      "id" in decision ? decision.id : converted.id,
    );
    const vector = await options.embeddings?.find(row, converted);
    const time = (value: bigint | undefined) => (value === undefined ? undefined : timestampOf(value));
    return create(MemoryRecordSchema, {
      memory: {
        id,
        domain: target.domain,
        content,
        source,
        ...(importance === undefined ? {} : { importance }),
        tags: [...tags],
        metadata: withRecord(metadata, {
          run: options.run,
          version: Number(version),
          ...record,
        }) as JsonObject,
        createTime: time(times.createTime),
        updateTime: time(times.updateTime),
        expireTime: time(times.expireTime),
        version,
        ...(vector === undefined
          ? {}
          : {
              embedding: {
                state: Memory_Embedding_State.READY,
                version: options.embeddings?.version.version ?? 0,
              },
            }),
      },
      chunks:
        vector === undefined
          ? []
          : [
              {
                chunkIndex: 0,
                startOffset: 0,
                endOffset: Array.from(content).length,
                embedding: littleEndian(vector),
              },
            ],
    });
  }
}

async function chooseActions(
  { database }: LegacySource,
  rows: readonly LegacyRow[],
  target: TargetDomain,
  { onConflict, signal }: ImportOptions,
): Promise<Item[]> {
  const converted = rows.map((row) => ({ row, converted: convertRow(row, database.isRepeated(row)) }));
  const ids = converted.flatMap(({ row, converted: { id } }) => [id, renamedId(row)]);
  const found = await findMemories(target, ids, signal);
  const now = BigInt(Date.now()) * 1_000n;
  const created = new Set<string>();
  return converted.map((one) => {
    const { expireTime } = one.converted;
    if (expireTime !== undefined && expireTime <= now) return { ...one, decision: { kind: "expired" } };
    const decision = decide(one.row, one.converted, found, onConflict);
    if (decision.kind === "create") {
      // Rows without a key may be equal in everything, their id included: they are one memory.
      const name = `${decision.id} ${one.converted.record.sha256}`;
      if (created.has(name)) return { ...one, decision: { kind: "unchanged" } };
      created.add(name);
    }
    return { ...one, decision };
  });
}

/** Counts what is not stored, and says what there is to say. */
function tell({ row, converted, decision }: Item, counts: ImportCounts, details: Detail[]): void {
  const id = decodeText(row.id ?? null).text;
  switch (decision.kind) {
    case "expired":
      counts.expired++;
      details.push({ id, what: "expired", detail: "its time is over" });
      return;
    case "unchanged":
      counts.unchanged++;
      return;
    case "changed-here":
      counts.changedHere++;
      details.push({
        id,
        what: "changed-here",
        detail: "left as it is in the target",
        memory: decision.memory.id,
      });
      return;
    case "conflict":
      counts.conflicts++;
      details.push({ id, what: "conflict", detail: decision.reason, memory: decision.memory.id });
      return;
    case "create":
      if (decision.renamed) {
        details.push({ id, what: "renamed", detail: "another memory has its id", memory: decision.id });
      }
      break;
    case "replace":
      details.push({
        id,
        what: "replaced",
        detail: "the memory that was there is in replaced.jsonl",
        memory: decision.id,
      });
      break;
    case "update":
      break;
  }
  for (const detail of converted.changes) details.push({ id, what: "altered", detail });
}

/** Counts what is stored. */
function count(counts: ImportCounts, { decision, converted }: Item): void {
  if (decision.kind === "create") counts.created++;
  if (decision.kind === "create" && decision.renamed) counts.renamed++;
  if (decision.kind === "update") counts.updated++;
  if (decision.kind === "replace") counts.replaced++;
  if (converted.changes.length > 0) counts.altered++;
}

function* steps(
  { database }: LegacySource,
  only: ((row: LegacyRow) => boolean) | undefined,
): Generator<LegacyRow[], void, undefined> {
  let rows: LegacyRow[] = [];
  let characters = 0;
  for (const row of database.rows(MEMORIES)) {
    if (only?.(row) === false) continue;
    rows.push(row);
    for (const value of Object.values(row)) {
      if (value !== null && typeof value === "object") characters += value.bytes.length;
    }
    if (rows.length < STEP.rows && characters < STEP.characters) continue;
    yield rows;
    rows = [];
    characters = 0;
  }
  if (rows.length > 0) yield rows;
}

function nameOf({ row }: Item): string {
  return decodeText(row.id ?? null).text;
}

function idOf({ decision, converted }: Item): string {
  return "id" in decision ? decision.id : converted.id;
}

function littleEndian(vector: Float32Array): Uint8Array<ArrayBuffer> {
  const bytes = new DataView(new ArrayBuffer(vector.length * 4));
  for (const [n, value] of vector.entries()) bytes.setFloat32(n * 4, value, true);
  return new Uint8Array(bytes.buffer);
}
