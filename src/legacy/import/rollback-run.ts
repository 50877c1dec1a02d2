import { join } from "node:path";
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { memoryServiceErrorFrom } from "memory-service-client";
import {
  type Memory,
  type MemoryRecord,
  MemoryRecordSchema,
  View,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import { legacyRecordOf } from "./choose-action.ts";
import { type RunDirectory, readRunLines } from "./run-directory.ts";
import {
  findMemories,
  getMemory,
  importedBy,
  importRecords,
  listMemories,
  type TargetDomain,
} from "./target-domain.ts";

/** Numbers of memories by outcome of a rollback. */
export interface Rollback {
  removed: number;
  /** Memories that the run had replaced and that were restored. */
  restored: number;
  /** Kept because they were changed after the import. */
  changed: number;
  /** Imported by the run and already deleted. */
  gone: number;
  failed: number;
}

const BATCH_SIZE = 200;

/**
 * Removes the memories that a run imported and that have not been changed since, and restores those that it replaced.
 * You can safely repeat a rollback.
 *
 * @param directory the directory of the run. Without it, replaced memories cannot be restored, and changed memories
 *   that have lost the record of the import cannot be reported.
 */
export async function rollbackRun(
  run: string,
  target: TargetDomain,
  directory: Pick<RunDirectory, "path"> | undefined,
  options: {
    readonly onKept: (id: string, reason: string) => Promise<void>;
    readonly onProgress?: (done: number) => void;
    readonly signal: AbortSignal;
  },
): Promise<Rollback> {
  const { signal } = options;
  const result: Rollback = { removed: 0, restored: 0, changed: 0, gone: 0, failed: 0 };
  const replaced = directory === undefined ? new Map() : await readReplaced(directory.path, run);
  /** Ids of the memories that still have their record, so that the journal adds only the others. */
  const seen = new Set<string>();
  let done = 0;

  for await (const batch of batches(listMemories(target, importedBy(run), signal, View.SNIPPET))) {
    for (const memory of batch) {
      seen.add(memory.id);
      await removeImported(memory);
      options.onProgress?.(++done);
    }
  }
  if (directory !== undefined) {
    for await (const batch of batches(readImportedIds(directory.path, seen))) {
      const found = await findMemories(target, batch, signal);
      for (const id of batch) {
        const memory = found.get(id);
        const record = memory === undefined ? undefined : legacyRecordOf(memory);
        if (memory === undefined) {
          // An earlier rollback removed it and was interrupted before it restored the replaced memory.
          if (replaced.has(id)) await restore(id);
          else result.gone++;
        } else if (record === undefined && !isReplaced(memory))
          await keep(id, "it was changed and has lost the record of the import");
      }
    }
  }
  return result;

  function isReplaced(memory: Memory): boolean {
    return replaced.get(memory.id)?.memory?.version === memory.version;
  }

  async function removeImported(memory: Memory): Promise<void> {
    const record = legacyRecordOf(memory);
    if (record === undefined || memory.version !== BigInt(record.version)) {
      await keep(
        memory.id,
        `it was changed: version ${record?.version} after the import, now version ${memory.version}`,
      );
      return;
    }
    try {
      await target.client.memories.delete(
        { domain: target.domain, id: memory.id, expectedVersion: memory.version },
        { signal },
      );
    } catch (error) {
      const { reason } = memoryServiceErrorFrom(error);
      if (reason === "MEMORY_NOT_FOUND") result.gone++;
      else if (reason === "VERSION_MISMATCH") await keep(memory.id, "it was changed during the rollback");
      else throw error;
      return;
    }
    if (replaced.has(memory.id)) await restore(memory.id);
    else result.removed++;
  }

  async function restore(id: string): Promise<void> {
    const record = replaced.get(id);
    if (record === undefined) return;
    const report = await importRecords(target, [record], { replace: false }, signal);
    if (report.created + report.unchanged > 0n) result.restored++;
    else {
      result.failed++;
      const reason =
        report.expired > 0n ? "it has expired" : (report.rejections[0]?.error?.message ?? "rejected");
      await options.onKept(id, `the replaced memory cannot be restored: ${reason}`);
    }
  }

  async function keep(id: string, reason: string): Promise<void> {
    // It may have been deleted since it was listed.
    if ((await getMemory(target, id, signal)) === undefined) result.gone++;
    else {
      result.changed++;
      await options.onKept(id, reason);
    }
  }
}

/**
 * Reads the memories that the run replaced, as they were before it. If a memory has several lines, the first one that
 * the run did not write itself counts.
 */
async function readReplaced(path: string, run: string): Promise<Map<string, MemoryRecord>> {
  const replaced = new Map<string, MemoryRecord>();
  for await (const line of readRunLines(join(path, "replaced.jsonl"))) {
    if (typeof line !== "object" || line === null || !("record" in line)) continue;
    const record = fromJson(MemoryRecordSchema, line.record as JsonValue);
    const { memory } = record;
    if (memory === undefined || replaced.has(memory.id) || legacyRecordOf(memory)?.run === run) continue;
    replaced.set(memory.id, record);
  }
  return replaced;
}

async function* readImportedIds(path: string, seen: Set<string>): AsyncGenerator<string, void, undefined> {
  for await (const line of readRunLines(join(path, "brought.jsonl"))) {
    if (typeof line !== "object" || line === null || !("id" in line) || typeof line.id !== "string") continue;
    if (seen.has(line.id)) continue;
    seen.add(line.id);
    yield line.id;
  }
}

async function* batches<T>(values: AsyncIterable<T>): AsyncGenerator<T[], void, undefined> {
  let batch: T[] = [];
  for await (const value of values) {
    batch.push(value);
    if (batch.length < BATCH_SIZE) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
