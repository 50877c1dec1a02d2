import {
  type Memory,
  Memory_Embedding_State,
  View,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { JsonObject } from "../../memory/model/memory.ts";
import { type ConvertedRow, convertRow, hashRow, originalRow, renamedId } from "../convert/convert-row.ts";
import { withoutRecord } from "../convert/legacy-record.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { type LegacyRow, MEMORIES } from "../readers/read-database.ts";
import { decodeText, isSameValue } from "../readers/stored-value.ts";
import { isImportedFrom, legacyRecordOf, microsecondsOf } from "./choose-action.ts";
import { findMemories, importedBy, listMemories, type TargetDomain } from "./target-domain.ts";

/** A memory that is not as the source has it. */
export interface Difference {
  readonly id: string;
  /** missing: not there. changed: by somebody, since it was imported. differs: not as it was imported. extra: not in the source. */
  readonly what: "missing" | "changed" | "differs" | "extra";
  readonly detail: string;
}

export interface Verification {
  /** In the source; of those, how many have expired and are rightly not in the target. */
  readonly memories: number;
  readonly expired: number;
  /** The same in every byte: the old row can be made again of them. */
  readonly equal: number;
  readonly missing: number;
  readonly changed: number;
  readonly differing: number;
  /** Brought by an import, and not in the source (any more). */
  readonly extra: number;
  /** Of the memories that are there. */
  readonly ready: number;
  readonly pending: number;
  readonly failed: number;
  /** Of the failed, those that have no text. */
  readonly empty: number;
}

const STEP = 200;

/** Compares every memory of a source with its target, byte by byte; hands each difference to `onDifference`. */
export async function verifySource(
  source: LegacySource,
  target: TargetDomain,
  how: {
    readonly onDifference: (difference: Difference) => Promise<void>;
    readonly onProgress?: (done: number) => void;
    readonly signal: AbortSignal;
  },
): Promise<Verification> {
  const sums = {
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
  // Memories that were met go here: what is left over is extra. On disk, as the rest of the survey.
  source.scratch.exec("create temp table if not exists met (id text primary key); delete from met");
  const meet = source.scratch.prepare("insert or ignore into met (id) values (?)");
  let step: LegacyRow[] = [];
  const flush = async () => {
    const rows = step.map((row) => ({ row, converted: convertRow(row, source.database.isRepeated(row)) }));
    step = [];
    const ids = rows.flatMap(({ row, converted }) => [converted.id, renamedId(row)]);
    const found = await findMemories(target, ids, how.signal);
    const now = BigInt(Date.now()) * 1_000n;
    for (const one of rows) {
      const difference = compare(one, found, now);
      if (difference !== undefined) await how.onDifference(difference);
    }
    how.onProgress?.(sums.memories);
  };
  for (const row of source.database.rows(MEMORIES)) {
    step.push(row);
    if (step.length >= STEP) await flush();
  }
  if (step.length > 0) await flush();

  const met = source.scratch.prepare("select 1 from met where id = ?");
  for await (const memory of listMemories(target, importedBy(undefined), how.signal, View.SNIPPET)) {
    if (met.get(memory.id) !== undefined) continue;
    sums.extra++;
    const run = legacyRecordOf(memory)?.run ?? "";
    await how.onDifference({
      id: memory.id,
      what: "extra",
      detail: `brought by import ${run}, and not in this source`,
    });
  }
  return sums;

  function compare(
    { row, converted }: { row: LegacyRow; converted: ConvertedRow },
    found: ReadonlyMap<string, Memory>,
    now: bigint,
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
    if (memory === undefined) {
      if (converted.expireTime !== undefined && converted.expireTime <= now) {
        sums.expired++;
        return undefined;
      }
      const [other] = candidates;
      if (
        other !== undefined &&
        differencesOf(other, converted).length === 0 &&
        converted.changes.length === 0
      ) {
        // It has come another way, and says the same.
        countState(other);
        sums.equal++;
        return undefined;
      }
      sums.missing++;
      const why = other === undefined ? "there is no such memory" : "its id belongs to another memory";
      return { id, what: "missing", detail: why };
    }
    meet.run(memory.id);
    countState(memory);
    const record = legacyRecordOf(memory);
    if (record === undefined) return undefined;
    if (memory.version !== BigInt(record.version)) {
      sums.changed++;
      return {
        id,
        what: "changed",
        detail: `was version ${record.version} when it was imported, is ${memory.version}`,
      };
    }
    const differing = [...differencesOf(memory, converted), ...rowDifferences(row, memory)];
    if (differing.length === 0) {
      sums.equal++;
      return undefined;
    }
    sums.differing++;
    const since =
      record.sha256 === hashRow(row) ? "" : " (the source has changed since it was imported: import again)";
    return { id, what: "differs", detail: `${[...new Set(differing)].join(", ")}${since}` };
  }

  function countState({ embedding, content }: Memory): void {
    if (embedding?.state === Memory_Embedding_State.READY) sums.ready++;
    else if (embedding?.state === Memory_Embedding_State.FAILED) {
      sums.failed++;
      if (!/\S/u.test(content)) sums.empty++;
    } else sums.pending++;
  }
}

/** Columns of the old row that the memory does not give back bit for bit. */
function rowDifferences(row: LegacyRow, memory: Memory): string[] {
  const record = legacyRecordOf(memory);
  if (record === undefined) return ["record of the import"];
  const metadata = withoutRecord((memory.metadata ?? {}) as JsonObject);
  let again: LegacyRow;
  try {
    again = originalRow({ ...memory, importance: memory.importance, metadata }, record);
  } catch {
    return ["record of the import"];
  }
  const columns = new Set([...Object.keys(row), ...Object.keys(again)]);
  return [...columns].filter(
    (column) =>
      !Object.hasOwn(row, column) ||
      !Object.hasOwn(again, column) ||
      !isSameValue(row[column] ?? null, again[column] ?? null),
  );
}

/** Fields of the memory that do not say what the row says. */
function differencesOf(memory: Memory, converted: ConvertedRow): string[] {
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
      ([, [is, should]]) =>
        String(JSON.stringify(is, bigintAsText)) !== String(JSON.stringify(should, bigintAsText)),
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
