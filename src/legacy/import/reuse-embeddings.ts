import { setTimeout as sleep } from "node:timers/promises";
import {
  type EmbeddingVersion,
  Memory_Embedding_State,
  type MemoryRecord,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import { StartupError } from "../../memory/model/errors.ts";
import { convertRow, renamedId } from "../convert/convert-row.ts";
import { keyOfId } from "../readers/inspect-vectors.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { type LegacyRow, MEMORIES } from "../readers/read-database.ts";
import { decodeText } from "../readers/stored-value.ts";
import { isImportedFrom, legacyRecordOf } from "./choose-action.ts";
import type { ImportOptions } from "./import-source.ts";
import { findMemories, type TargetDomain } from "./target-domain.ts";

/** Old embeddings of so many memories are compared with new ones before any is taken over. */
const SAMPLE = 16;
/** Of those, so many are of the last rows: two servers on one directory leave the wrong vector there. */
const SAMPLE_LAST = 4;
/** Cosine similarity from which on two embeddings of a text are the same; different versions of Ollama differ by less. */
const SAME = 0.999;
const POLL_MS = 300;
/** An embedder that is away for so long is not waited for. */
const PATIENCE_MS = 15_000;

/** Old embeddings that may be good, and why the others are not. */
export interface ReuseCandidates {
  readonly count: number;
  /** Of the others, how many for which reason. */
  readonly others: readonly (readonly [number, string])[];
}

/** What is taken over, and why, a sentence each. */
export interface Reuse {
  /** Undefined: nothing. */
  readonly embeddings: ImportOptions["embeddings"];
  readonly sentences: readonly string[];
}

/**
 * Looks for memories whose old embedding is of exactly their text: one live chunk, in sync, not 0, that covers it whole.
 * Notes them in the table `candidate` of the scratch database.
 *
 * @throws StartupError if none of the old embeddings can be used.
 */
export function findCandidates({ database, scratch, vectors }: LegacySource): ReuseCandidates {
  const { problem, chunks } = vectors.findings;
  if (problem !== undefined || vectors.index === undefined || chunks === 0) {
    const why = problem ?? "there are none";
    throw new StartupError(
      `the old embeddings cannot be taken over: ${why}; leave out --reuse-vectors, and all are made anew`,
    );
  }
  scratch.exec("create table candidate (key text primary key, row integer, length integer)");
  const insert = scratch.prepare("insert into candidate (key, row, length) values (?, ?, ?)");
  const chunksOf = scratch.prepare("select row, content from chunk where key = ? order by row limit 2");
  const stateOf = scratch.prepare("select state, stale from memory where key = ?");
  const others = new Map<string, number>();
  let count = 0;
  for (const row of database.rows(MEMORIES)) {
    const { id = null, content = null } = row;
    const key = keyOfId(id);
    const { state, stale } = stateOf.get(key) ?? {};
    const [chunk, another] = chunksOf.all(key);
    const { text, exact } = decodeText(content);
    const reason = database.isRepeated(row)
      ? "several memories have this id"
      : state !== "ok"
        ? (STATES[String(state)] ?? "there is none")
        : stale !== null
          ? "it missed a change of the memory"
          : another !== undefined || chunk?.content !== text || !exact
            ? "the old system had cut the text, or left out a part"
            : undefined;
    if (reason !== undefined) others.set(reason, (others.get(reason) ?? 0) + 1);
    else {
      insert.run(key, Number(chunk?.row), text.length);
      count++;
    }
  }
  return { count, others: [...others].map(([reason, memories]) => [memories, reason] as const) };
}

/** For a dry run, a sentence each. */
export function describeCandidates({ count, others }: ReuseCandidates): string[] {
  return [
    `${count} old embeddings may be taken over, if a sample of them is what the model makes now`,
    ...others.map(describeOther),
  ];
}

function describeOther([count, reason]: ReuseCandidates["others"][number]): string {
  return `${count} embeddings are made anew: ${reason}`;
}

const STATES: Readonly<Record<string, string>> = {
  zero: "it is 0",
  "partly-zero": "it is 0 in part",
  missing: "there is none",
  "no-row": "there is none",
};

/**
 * Decides whether the candidates are taken over: a sample of them is imported and embedded, and all of the old embeddings
 * of the sample have to be those that the model makes now.
 *
 * @param importOnly imports some rows, as everything will be
 */
export async function decideReuse(
  source: LegacySource,
  target: TargetDomain,
  candidates: ReuseCandidates,
  importOnly: (only: (row: LegacyRow) => boolean) => Promise<void>,
  signal: AbortSignal,
): Promise<Reuse> {
  const { index } = source.vectors;
  const anew = candidates.others.map(describeOther);
  if (index === undefined || candidates.count === 0) {
    return { embeddings: undefined, sentences: ["no old embedding can be taken over", ...anew] };
  }
  await assertDimensions(index.dimensions, target, signal);
  const sample = sampleOf(source);
  await importOnly(({ id = null }) => sample.has(keyOfId(id)));

  const ids = await idsOf(source, target, sample, signal);
  const { version, records } = await exportEmbedded(target, [...ids.keys()], signal);
  const similarities: number[] = [];
  let longest = 0;
  for (const { memory, chunks } of records) {
    const row = sample.get(ids.get(memory?.id ?? "") ?? "");
    const [chunk, another] = chunks;
    if (row === undefined || chunk === undefined) continue;
    // The model takes it in pieces: of a text so long, or longer, the old embedding is not what it would make.
    if (another !== undefined) continue;
    similarities.push(cosine(await index.row(row), floats(chunk.embedding)));
    longest = Math.max(longest, memory?.content.length ?? 0);
  }
  const agreeing = similarities.filter((similarity) => similarity >= SAME).length;
  const compared = `${agreeing} of ${similarities.length} that were compared are those that ${version?.model ?? "the model"} makes now`;
  if (version === undefined || agreeing === 0 || agreeing < similarities.length) {
    const why =
      similarities.length === 0
        ? "the embedder gave nothing to compare with"
        : agreeing === 0
          ? `${compared}: they are of another model, or were made without the prefixes that it is asked with`
          : `${compared}, so that nobody knows about the others`;
    return {
      embeddings: undefined,
      sentences: [
        `no old embedding is taken over: ${why}`,
        `${candidates.count} embeddings are made anew for that`,
        ...anew,
      ],
    };
  }
  const rowOf = source.scratch.prepare("select row from candidate where key = ? and length <= ?");
  return {
    embeddings: {
      version,
      find: async ({ id = null }) => {
        const found = rowOf.get(keyOfId(id), longest);
        return found === undefined ? undefined : normalised(await index.row(Number(found.row)));
      },
    },
    sentences: [`old embeddings are taken over: ${compared}`, ...anew],
  };
}

async function assertDimensions(
  dimensions: number,
  target: TargetDomain,
  signal: AbortSignal,
): Promise<void> {
  const used = await versionInUse(target, signal);
  if (used === undefined) {
    throw new StartupError(
      "the old embeddings cannot be compared with new ones: the embedder is away; start it, or leave out --reuse-vectors",
    );
  }
  if (used.dimensions !== dimensions) {
    throw new StartupError(
      `the old embeddings have ${dimensions} dimensions, and ${used.model} makes ${used.dimensions}: leave out --reuse-vectors, and all are made anew`,
    );
  }
}

/** What the domain embeds with, or would; undefined: the embedder is away for a while already. */
async function versionInUse(
  target: TargetDomain,
  signal: AbortSignal,
): Promise<EmbeddingVersion | undefined> {
  for (let waited = 0; ; waited += POLL_MS) {
    const { embedder } = await target.client.server.getServerInfo({}, { signal });
    const found = await target.client.domains
      .getDomain({ name: target.domain }, { signal })
      .catch(() => undefined);
    const version = found?.domain?.embeddingVersion ?? embedder?.version;
    if (version !== undefined && embedder?.available === true) return version;
    if (waited > PATIENCE_MS) return undefined;
    await sleep(POLL_MS, undefined, { signal });
  }
}

/** Keys and rows: the last ones, the longest text, and others from all over. */
function sampleOf({ scratch }: LegacySource): Map<string, number> {
  // Not as parameters, which would be no whole numbers.
  const spread = SAMPLE - SAMPLE_LAST - 1;
  const rows = scratch
    .prepare(
      `select key, row from (
        select *, row_number() over (order by row desc) as from_end, row_number() over (order by length desc, row) as by_length,
          row_number() over (order by row) as position, count(*) over () as candidates from candidate)
      where from_end <= ${SAMPLE_LAST} or by_length <= 1
        or (position * ${spread}) / candidates > ((position - 1) * ${spread}) / candidates`,
    )
    .all();
  return new Map(rows.map(({ key, row }) => [String(key), Number(row)]));
}

/** The memories that were made of the sample, by id. */
async function idsOf(
  { database }: LegacySource,
  target: TargetDomain,
  sample: ReadonlyMap<string, number>,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const ids = new Map<string, string>();
  for (const row of database.rows(MEMORIES)) {
    const key = keyOfId(row.id ?? null);
    if (!sample.has(key)) continue;
    const found = await findMemories(
      target,
      [convertRow(row, database.isRepeated(row)).id, renamedId(row)],
      signal,
    );
    for (const memory of found.values()) {
      const record = legacyRecordOf(memory);
      if (record !== undefined && isImportedFrom(row, memory, record)) ids.set(memory.id, key);
    }
  }
  return ids;
}

async function exportEmbedded(target: TargetDomain, ids: readonly string[], signal: AbortSignal) {
  const records: MemoryRecord[] = [];
  let version: EmbeddingVersion | undefined;
  if (ids.length === 0) return { version, records };
  for (let away = 0; away <= PATIENCE_MS; ) {
    const found = await findMemories(target, ids, signal);
    const states = [...found.values()].map(({ embedding }) => embedding?.state);
    if (!states.includes(Memory_Embedding_State.PENDING)) break;
    const { embedder } = await target.client.server.getServerInfo({}, { signal });
    away = embedder?.available === true ? 0 : away + POLL_MS;
    await sleep(POLL_MS, undefined, { signal });
  }
  const exported = target.client.memories.export(
    {
      domain: target.domain,
      includeEmbeddings: true,
      filter: { condition: { case: "ids", value: { values: [...ids] } } },
    },
    { signal },
  );
  for await (const { item } of exported) {
    if (item.case === "header") version = item.value.embeddingVersion;
    else if (item.case === "record") records.push(item.value);
  }
  return { version, records };
}

function floats(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length / 4 }, (_, n) => view.getFloat32(n * 4, true));
}

function cosine(a: Float32Array, b: Float32Array): number {
  let product = 0;
  for (const [n, value] of a.entries()) product += value * (b[n] ?? 0);
  return product / (Math.hypot(...a) * Math.hypot(...b));
}

function normalised(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}
