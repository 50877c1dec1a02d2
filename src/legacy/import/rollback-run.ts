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

/** What a rollback did. */
export interface Rollback {
  removed: number;
  /** Memories that the run had replaced, and that are there again. */
  restored: number;
  /** Left alone, since somebody has changed them since. */
  changed: number;
  /** Brought by the run, and gone already. */
  gone: number;
  failed: number;
}

const STEP = 200;

/**
 * Removes what a run has brought and nobody has changed since, and puts back what it had replaced. Repeating it is safe.
 *
 * @param directory that of the run; without it replaced memories cannot be put back, and changed ones that have lost
 *   the record of the import cannot be told.
 */
export async function rollbackRun(
  run: string,
  target: TargetDomain,
  directory: Pick<RunDirectory, "path"> | undefined,
  how: {
    readonly onLeft: (id: string, why: string) => Promise<void>;
    readonly onProgress?: (done: number) => void;
    readonly signal: AbortSignal;
  },
): Promise<Rollback> {
  const { signal } = how;
  const result: Rollback = { removed: 0, restored: 0, changed: 0, gone: 0, failed: 0 };
  const replaced = directory === undefined ? new Map() : await readReplaced(directory.path, run);
  /** What was dealt with, so that the journal adds only what the target does not tell. */
  const seen = new Set<string>();
  let done = 0;

  for await (const step of batches(listMemories(target, importedBy(run), signal, View.SNIPPET))) {
    for (const memory of step) {
      seen.add(memory.id);
      await takeBack(memory);
      how.onProgress?.(++done);
    }
  }
  if (directory !== undefined) {
    for await (const step of batches(readBrought(directory.path, seen))) {
      const found = await findMemories(target, step, signal);
      for (const id of step) {
        const memory = found.get(id);
        const record = memory === undefined ? undefined : legacyRecordOf(memory);
        if (memory === undefined) {
          // Removed by a rollback that was interrupted before it could put back what had been there.
          if (replaced.has(id)) await restore(id);
          else result.gone++;
        } else if (record === undefined && !isReplaced(memory))
          await leave(id, "changed since, and without its record");
      }
    }
  }
  return result;

  function isReplaced(memory: Memory): boolean {
    return replaced.get(memory.id)?.memory?.version === memory.version;
  }

  async function takeBack(memory: Memory): Promise<void> {
    const record = legacyRecordOf(memory);
    if (record === undefined || memory.version !== BigInt(record.version)) {
      await leave(memory.id, `changed since: was version ${record?.version}, is ${memory.version}`);
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
      else if (reason === "VERSION_MISMATCH") await leave(memory.id, "changed just now");
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
      const why =
        report.expired > 0n ? "it has expired" : (report.rejections[0]?.error?.message ?? "refused");
      await how.onLeft(id, `what was there before cannot be put back: ${why}`);
    }
  }

  async function leave(id: string, why: string): Promise<void> {
    // Whether it is there at all may have changed since it was listed.
    if ((await getMemory(target, id, signal)) === undefined) result.gone++;
    else {
      result.changed++;
      await how.onLeft(id, why);
    }
  }
}

/** What the run replaced, as it was before the run: of several lines about one memory the first that is not of the run. */
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

async function* readBrought(path: string, seen: Set<string>): AsyncGenerator<string, void, undefined> {
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
    if (batch.length < STEP) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
