import {
  type Memory,
  Memory_Embedding_State,
  View,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import { type ConvertedRow, convertRow } from "../convert/convert-row.ts";
import { hashRow, renamedId } from "../convert/row-ids.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { type LegacyRow, MEMORIES } from "../readers/read-database.ts";
import { decodeText } from "../readers/stored-value.ts";
import { isImportedFrom, legacyRecordOf } from "./choose-action.ts";
import { differingColumns, differingFields } from "./compare-memory.ts";
import { findMemories, importedBy, listMemories, type TargetDomain } from "./target-domain.ts";

/** A memory that differs from the source. */
export interface Difference {
  readonly id: string;
  /**
   * missing: not in the target. changed: changed in the target since the import. differs: not as it was imported.
   * extra: not in the source.
   */
  readonly what: "missing" | "changed" | "differs" | "extra";
  readonly detail: string;
}

export interface Verification {
  /** Memories in the source. */
  readonly memories: number;
  /** Memories of the source that have expired and are correctly absent from the target. */
  readonly expired: number;
  /** Memories that are identical: the old row can be restored from them, byte for byte. */
  readonly equal: number;
  readonly missing: number;
  readonly changed: number;
  readonly differing: number;
  /** Memories that an import created and that are not, or no longer, in the source. */
  readonly extra: number;
  /** Memories in the target by the state of their embedding. */
  readonly ready: number;
  readonly pending: number;
  readonly failed: number;
  /** Failed memories that have no text. */
  readonly empty: number;
}

type Sums = { -readonly [name in keyof Verification]: number };

interface VerifyOptions {
  readonly onDifference: (difference: Difference) => Promise<void>;
  readonly onProgress?: (done: number) => void;
  readonly signal: AbortSignal;
}

const BATCH_SIZE = 200;

/** Compares every memory of a source with its target, byte by byte. Passes each difference to `onDifference`. */
export async function verifySource(
  source: LegacySource,
  target: TargetDomain,
  options: VerifyOptions,
): Promise<Verification> {
  const { onDifference, onProgress, signal } = options;
  const sums: Sums = {
    memories: 0,
    expired: 0,
    equal: 0,
    missing: 0,
    changed: 0,
    differing: 0,
    extra: 0,
    ready: 0,
    pending: 0,
    failed: 0,
    empty: 0,
  };
  // Records which memories of the target were seen, on disk like the rest of the inspection. The others are extra.
  source.scratch.exec("create temp table if not exists seen (id text primary key); delete from seen");
  const markSeen = source.scratch.prepare("insert or ignore into seen (id) values (?)");
  for (const batch of batches(source)) {
    const rows = batch.map((row) => ({ row, converted: convertRow(row, source.database.isRepeated(row)) }));
    const ids = rows.flatMap(({ row, converted }) => [converted.id, renamedId(row)]);
    const found = await findMemories(target, ids, signal);
    const now = BigInt(Date.now()) * 1_000n;
    for (const { row, converted } of rows) {
      const difference = compareRow(row, converted, { found, now, sums, markSeen: (id) => markSeen.run(id) });
      if (difference !== undefined) await onDifference(difference);
    }
    onProgress?.(sums.memories);
  }

  const seen = source.scratch.prepare("select 1 from seen where id = ?");
  for await (const memory of listMemories(target, importedBy(undefined), signal, View.SNIPPET)) {
    if (seen.get(memory.id) !== undefined) continue;
    sums.extra++;
    const run = legacyRecordOf(memory)?.run ?? "";
    await onDifference({
      id: memory.id,
      what: "extra",
      detail: `imported by run ${run}, but not in this source`,
    });
  }
  return sums;
}

function* batches({ database }: LegacySource): Generator<LegacyRow[], void, undefined> {
  let batch: LegacyRow[] = [];
  for (const row of database.rows(MEMORIES)) {
    batch.push(row);
    if (batch.length < BATCH_SIZE) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

interface CompareContext {
  readonly found: ReadonlyMap<string, Memory>;
  readonly now: bigint;
  readonly sums: Sums;
  readonly markSeen: (id: string) => void;
}

/** Compares a row with its memory and counts the outcome. */
function compareRow(
  row: LegacyRow,
  converted: ConvertedRow,
  { found, now, sums, markSeen }: CompareContext,
): Difference | undefined {
  sums.memories++;
  const id = decodeText(row.id ?? null).text;
  const candidates = [found.get(converted.id), found.get(renamedId(row))].filter(
    (memory) => memory !== undefined,
  );
  const memory = candidates.find((one) => {
    const record = legacyRecordOf(one);
    return record !== undefined && isImportedFrom(row, one, record);
  });
  if (memory === undefined) return compareUnimportedRow(id, converted, { candidates, now, sums });
  markSeen(memory.id);
  countEmbeddingState(memory, sums);
  const record = legacyRecordOf(memory);
  if (record === undefined) return undefined;
  if (memory.version !== BigInt(record.version)) {
    sums.changed++;
    return {
      id,
      what: "changed",
      detail: `version ${record.version} after the import, now version ${memory.version}`,
    };
  }
  const differing = [...differingFields(memory, converted), ...differingColumns(row, memory)];
  if (differing.length === 0) {
    sums.equal++;
    return undefined;
  }
  sums.differing++;
  const hint =
    record.sha256 === hashRow(row) ? "" : " (the source has changed since the import; run the import again)";
  return { id, what: "differs", detail: `${[...new Set(differing)].join(", ")}${hint}` };
}

/** Compares a row that no memory of the target was imported from. */
function compareUnimportedRow(
  id: string,
  converted: ConvertedRow,
  {
    candidates,
    now,
    sums,
  }: { readonly candidates: readonly Memory[]; readonly now: bigint; readonly sums: Sums },
): Difference | undefined {
  if (converted.expireTime !== undefined && converted.expireTime <= now) {
    sums.expired++;
    return undefined;
  }
  const [other] = candidates;
  if (
    other !== undefined &&
    differingFields(other, converted).length === 0 &&
    converted.changes.length === 0
  ) {
    // The memory was stored in another way and is equal.
    countEmbeddingState(other, sums);
    sums.equal++;
    return undefined;
  }
  sums.missing++;
  const detail = other === undefined ? "the memory does not exist" : "a different memory has its id";
  return { id, what: "missing", detail };
}

function countEmbeddingState({ embedding, content }: Memory, sums: Sums): void {
  if (embedding?.state === Memory_Embedding_State.READY) sums.ready++;
  else if (embedding?.state === Memory_Embedding_State.FAILED) {
    sums.failed++;
    if (!/\S/u.test(content)) sums.empty++;
  } else sums.pending++;
}
