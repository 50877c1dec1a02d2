import type { Memory, MemoryRecord } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { convertRow } from "../convert/convert-row.ts";
import { renamedId } from "../convert/row-ids.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { type LegacyRow, MEMORIES } from "../readers/read-database.ts";
import { chooseAction, type OnConflict } from "./choose-action.ts";
import {
  countStored,
  type Detail,
  type ImportCounts,
  recordAction,
  sourceId,
  zeroCounts,
} from "./import-counts.ts";
import {
  buildRecord,
  type ImportItem,
  overwrittenMemory,
  type ReusedEmbeddings,
  targetId,
} from "./import-item.ts";
import { findMemories, importRecords, sizeProblem, type TargetDomain } from "./target-domain.ts";

export interface ImportOptions {
  readonly onConflict: OnConflict;
  readonly run: string;
  /** Undefined for a dry run, which writes neither to the target nor to files. */
  readonly journal: Journal | undefined;
  /** Selects the rows to import. Defaults to all. */
  readonly only?: (row: LegacyRow) => boolean;
  readonly embeddings?: ReusedEmbeddings;
  readonly onProgress?: (done: number) => void;
  readonly signal: AbortSignal;
}

/** Writes what must be on disk before the target is changed, and the details of the report. */
export interface Journal {
  appendImported(memories: readonly { readonly id: string; readonly version: number }[]): Promise<void>;
  appendReplaced(memories: readonly Memory[]): Promise<void>;
  appendDetails(details: readonly Detail[]): Promise<void>;
}

/** Bounds of a batch, which takes one call to look up and at most two to store. */
const BATCH = { rows: 200, characters: 1024 * 1024 } as const;

/**
 * Imports the memories of a source into a target. Memories that exist already are kept, so that a repeated import only
 * adds what is missing.
 */
export async function importSource(
  source: LegacySource,
  target: TargetDomain,
  options: ImportOptions,
): Promise<ImportCounts> {
  const { signal, journal } = options;
  const counts = zeroCounts();
  let done = 0;
  for (const rows of batches(source, options.only)) {
    signal.throwIfAborted();
    const details: Detail[] = [];
    const items = await chooseActions(source, rows, target, options);
    for (const item of items) recordAction(item, counts, details);
    const creates = items.filter(({ action }) => action.kind === "create");
    const overwrites = items.filter(({ action: { kind } }) => kind === "update" || kind === "replace");
    if (journal === undefined) {
      for (const item of [...creates, ...overwrites]) countStored(counts, item);
    } else {
      const batch = { target, journal, counts, details, options };
      await journal.appendReplaced(overwrites.flatMap((item) => overwrittenMemory(item) ?? []));
      await storeItems(creates, { ...batch, replace: false });
      await storeItems(overwrites, { ...batch, replace: true });
      await journal.appendDetails(details);
    }
    done += rows.length;
    options.onProgress?.(done);
  }
  return counts;
}

async function storeItems(
  items: readonly ImportItem[],
  batch: {
    readonly target: TargetDomain;
    readonly journal: Journal;
    readonly counts: ImportCounts;
    readonly details: Detail[];
    readonly options: ImportOptions;
    readonly replace: boolean;
  },
): Promise<void> {
  const { target, journal, counts, details, options, replace } = batch;
  const { embeddings, run, signal } = options;
  const reject = (item: ImportItem, detail: string) => {
    counts.rejected++;
    details.push({ id: sourceId(item), what: "rejected", detail });
  };
  const sent: ImportItem[] = [];
  const records: MemoryRecord[] = [];
  for (const item of items) {
    const record = await buildRecord(item, { run, domain: target.domain, embeddings });
    const problem = sizeProblem(target, record);
    if (problem === undefined) {
      sent.push(item);
      records.push(record);
    } else reject(item, problem);
  }
  if (records.length === 0) return;
  await journal.appendImported(
    records.map(({ memory }) => ({ id: memory?.id ?? "", version: Number(memory?.version) })),
  );
  const response = await importRecords(
    target,
    records,
    { replace, embeddingVersion: embeddings?.version },
    signal,
  );
  const failed = new Set<ImportItem>();
  for (const { index, error } of response.rejections) {
    const item = sent[Number(index)];
    if (item === undefined) continue;
    failed.add(item);
    reject(item, error?.message ?? "");
  }
  counts.expired += Number(response.expired);
  if (response.duplicates > 0n) {
    const found = await findMemories(target, sent.map(targetId), signal);
    for (const item of sent) {
      if (failed.has(item) || found.has(targetId(item))) continue;
      failed.add(item);
      counts.duplicates++;
      const detail = "the domain stores each content once and already has this one";
      details.push({ id: sourceId(item), what: "duplicate", detail });
    }
  }
  for (const [index, item] of sent.entries()) {
    if (failed.has(item)) continue;
    countStored(counts, item);
    if ((records[index]?.chunks.length ?? 0) > 0) counts.reused++;
  }
}

async function chooseActions(
  { database }: LegacySource,
  rows: readonly LegacyRow[],
  target: TargetDomain,
  { onConflict, signal }: ImportOptions,
): Promise<ImportItem[]> {
  const converted = rows.map((row) => ({ row, converted: convertRow(row, database.isRepeated(row)) }));
  const ids = converted.flatMap(({ row, converted: { id } }) => [id, renamedId(row)]);
  const found = await findMemories(target, ids, signal);
  const now = BigInt(Date.now()) * 1_000n;
  const created = new Set<string>();
  return converted.map((one) => {
    const { expireTime } = one.converted;
    if (expireTime !== undefined && expireTime <= now) return { ...one, action: { kind: "expired" } };
    const action = chooseAction(one.row, one.converted, found, onConflict);
    if (action.kind === "create") {
      // Rows without a primary key can be identical, including their id. They are one memory.
      const identity = `${action.id} ${one.converted.record.sha256}`;
      if (created.has(identity)) return { ...one, action: { kind: "unchanged" } };
      created.add(identity);
    }
    return { ...one, action };
  });
}

function* batches(
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
    if (rows.length < BATCH.rows && characters < BATCH.characters) continue;
    yield rows;
    rows = [];
    characters = 0;
  }
  if (rows.length > 0) yield rows;
}
