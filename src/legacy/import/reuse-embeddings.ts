import { setTimeout as sleep } from "node:timers/promises";
import {
  type EmbeddingVersion,
  Memory_Embedding_State,
  type MemoryRecord,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import { StartupError } from "../../util/startup-error.ts";
import { convertRow } from "../convert/convert-row.ts";
import { renamedId } from "../convert/row-ids.ts";
import { keyOfId } from "../readers/inspect-vectors.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { type LegacyRow, MEMORIES } from "../readers/read-database.ts";
import { cosineSimilarity, normalize } from "../vector-math.ts";
import { isImportedFrom, legacyRecordOf } from "./choose-action.ts";
import type { ReusedEmbeddings } from "./import-item.ts";
import { describeOther, type ReuseCandidates } from "./reuse-candidates.ts";
import { findMemories, type TargetDomain } from "./target-domain.ts";
import { MAX_EMBEDDER_DOWNTIME_MS } from "./wait-for-embeddings.ts";

/** Number of old embeddings that are compared with new ones before any is reused. */
const SAMPLE_SIZE = 16;
/** Number of samples from the last rows, where two servers on one directory leave wrong vectors. */
const SAMPLE_LAST = 4;
/** Minimum cosine similarity of equal embeddings. Versions of Ollama differ by less. */
const MIN_SIMILARITY = 0.999;
const POLL_INTERVAL_MS = 300;

/** The embeddings to reuse, and the reasons as sentences. */
export interface Reuse {
  /** Undefined if no embedding is reused. */
  readonly embeddings: ReusedEmbeddings | undefined;
  readonly sentences: readonly string[];
}

/**
 * Decides whether to reuse the candidates. Imports and embeds a sample of them. Every old embedding of the sample must
 * match the one that the model computes today.
 *
 * @param importOnly imports the selected rows in the same way as the others
 */
export async function decideReuse(
  source: LegacySource,
  target: TargetDomain,
  candidates: ReuseCandidates,
  importOnly: (only: (row: LegacyRow) => boolean) => Promise<void>,
  signal: AbortSignal,
): Promise<Reuse> {
  const { index } = source.vectors;
  const others = candidates.others.map(describeOther);
  if (index === undefined || candidates.count === 0) {
    return { embeddings: undefined, sentences: ["no old embedding can be reused", ...others] };
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
    // The model splits a text of this length into chunks, so that the old embedding does not correspond to one of them.
    if (another !== undefined) continue;
    similarities.push(cosineSimilarity(await index.row(row), floats(chunk.embedding)));
    longest = Math.max(longest, memory?.content.length ?? 0);
  }
  const agreeing = similarities.filter((similarity) => similarity >= MIN_SIMILARITY).length;
  const compared = `${agreeing} of ${similarities.length} compared embeddings match what ${version?.model ?? "the model"} computes today`;
  if (version === undefined || agreeing === 0 || agreeing < similarities.length) {
    const reason =
      similarities.length === 0
        ? "the embedder returned nothing to compare with"
        : agreeing === 0
          ? `${compared}; they come from another model, or were computed without its prefixes`
          : `${compared}, so that the others are uncertain`;
    return {
      embeddings: undefined,
      sentences: [
        `no old embedding is reused: ${reason}`,
        `${candidates.count} memories are re-embedded for that reason`,
        ...others,
      ],
    };
  }
  const rowOf = source.scratch.prepare("select row from candidate where key = ? and length <= ?");
  return {
    embeddings: {
      version,
      find: async ({ id = null }) => {
        const found = rowOf.get(keyOfId(id), longest);
        return found === undefined ? undefined : normalize(await index.row(Number(found.row)));
      },
    },
    sentences: [`old embeddings are reused: ${compared}`, ...others],
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
      "cannot compare the old embeddings with new ones: the embedder is unavailable; start it or omit --reuse-vectors",
    );
  }
  if (used.dimensions !== dimensions) {
    throw new StartupError(
      `the old embeddings have ${dimensions} dimensions, but ${used.model} computes ${used.dimensions}; omit --reuse-vectors to re-embed every memory`,
    );
  }
}

/** Returns the embedding version of the domain; undefined if the embedder stays unavailable. */
async function versionInUse(
  target: TargetDomain,
  signal: AbortSignal,
): Promise<EmbeddingVersion | undefined> {
  for (let waitedMs = 0; ; waitedMs += POLL_INTERVAL_MS) {
    const { embedder } = await target.client.server.getServerInfo({}, { signal });
    const found = await target.client.domains
      .getDomain({ name: target.domain }, { signal })
      .catch(() => undefined);
    const version = found?.domain?.embeddingVersion ?? embedder?.version;
    if (version !== undefined && embedder?.available === true) return version;
    if (waitedMs > MAX_EMBEDDER_DOWNTIME_MS) return undefined;
    await sleep(POLL_INTERVAL_MS, undefined, { signal });
  }
}

/** Selects a sample, as rows by key: the last rows, the longest text, and others that are spread evenly. */
function sampleOf({ scratch }: LegacySource): Map<string, number> {
  // Not passed as parameters, which SQLite would receive as floating-point numbers.
  const spread = SAMPLE_SIZE - SAMPLE_LAST - 1;
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

/** Finds the memories that were imported from the sample. Returns their keys by id. */
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

/** Waits until the memories are embedded, and exports them with their embeddings. */
async function exportEmbedded(target: TargetDomain, ids: readonly string[], signal: AbortSignal) {
  const records: MemoryRecord[] = [];
  let version: EmbeddingVersion | undefined;
  if (ids.length === 0) return { version, records };
  for (let downtimeMs = 0; downtimeMs <= MAX_EMBEDDER_DOWNTIME_MS; ) {
    const found = await findMemories(target, ids, signal);
    const states = [...found.values()].map(({ embedding }) => embedding?.state);
    if (!states.includes(Memory_Embedding_State.PENDING)) break;
    const { embedder } = await target.client.server.getServerInfo({}, { signal });
    downtimeMs = embedder?.available === true ? 0 : downtimeMs + POLL_INTERVAL_MS;
    await sleep(POLL_INTERVAL_MS, undefined, { signal });
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
