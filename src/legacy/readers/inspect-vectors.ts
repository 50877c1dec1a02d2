import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { legacyChunks } from "./legacy-chunker.ts";
import { parsePythonJson } from "./python-json.ts";
import { type LegacyDatabase, MEMORIES } from "./read-database.ts";
import { type FaissIndex, openFaissIndex } from "./read-faiss-index.ts";
import { readJsonMembers } from "./read-json-members.ts";
import { decodeText, type StoredValue } from "./stored-value.ts";

const INDEX_FILE = "faiss_index.bin";
export const CHUNKS_FILE = "faiss_metadata.json";

/** The state of the old vectors of a memory. */
export type VectorState =
  /** Every chunk has a vector. */
  | "ok"
  /** All vectors, or some of them, are zero because the embedder was unavailable. */
  | "zero"
  | "partly-zero"
  /** The memory has no vectors. */
  | "missing"
  /** The index lacks the rows of some chunks. */
  | "no-row"
  /** Rows and chunks are out of step, so that the vectors cannot be assigned to memories. */
  | "unreliable";

/** The findings about the vectors of a data directory. */
export interface VectorFindings {
  /** Why no old vector can be used; undefined if they can. */
  readonly problem: string | undefined;
  readonly dimensions: number;
  readonly rows: number;
  /** Number of chunks that could be read. */
  readonly chunks: number;
  readonly states: Readonly<Record<VectorState, number>>;
  /** Memories whose chunks missed an update of the text, or only of the metadata. */
  readonly textStale: number;
  readonly metadataStale: number;
  /** Chunks of earlier texts. */
  readonly tombstones: number;
  /** Tombstones whose memory is known. */
  readonly tombstonesLinked: number;
  /** Chunks of memories that no longer exist. */
  readonly orphans: number;
  /** Chunks that are in use but missing from the old server's map. */
  readonly notMapped: number;
  readonly zeroRows: number;
}

/** The result of an inspection. The tables `memory` and `chunk` of the scratch database hold its details. */
export interface VectorInspection {
  readonly findings: VectorFindings;
  /** The open index, which the caller closes; undefined if it is absent or unusable. */
  readonly index: FaissIndex | undefined;
  /** The byte at which the file of chunks became unreadable; undefined if it was read completely. */
  readonly unreadFrom: number | undefined;
}

/**
 * Inspects the vectors of a data directory and records the findings in the scratch database. It reads one chunk and one
 * vector at a time, so that memory use is constant.
 */
export async function inspectVectors(
  database: LegacyDatabase,
  directory: string | undefined,
  scratch: DatabaseSync,
  signal: AbortSignal,
): Promise<VectorInspection> {
  scratch.exec(`
    create table memory (key text primary key, row integer, created_at real, updated_at real, state text, stale text);
    create index memory_created on memory (created_at);
    create table chunk (row integer primary key, key text, content text, json text,
      meta_created_at real, meta_updated_at real, zero integer not null default 0, mapped integer not null default 0);
    create index chunk_key on chunk (key);`);
  recordMemories(database, scratch);
  const problems: string[] = [];
  const opened =
    directory === undefined
      ? ({ kind: "absent" } as const)
      : await openFaissIndex(join(directory, INDEX_FILE));
  const chunks = directory === undefined ? { chunks: 0 } : await recordChunks(directory, scratch, signal);
  const index = opened.kind === "index" ? opened.index : undefined;
  if (opened.kind === "unusable") problems.push(`${INDEX_FILE} ${opened.reason}`);
  if (chunks.problem !== undefined) problems.push(`${CHUNKS_FILE} ${chunks.problem}`);
  if (opened.kind === "absent" && chunks.chunks > 0) problems.push(`${INDEX_FILE} is missing`);
  if (index !== undefined && chunks.chunks === 0 && index.rows > 0 && problems.length === 0) {
    problems.push(`${CHUNKS_FILE} is missing`);
  }
  let zeroRows = 0;
  for (let row = 0; row < (index?.rows ?? 0); row++) {
    signal.throwIfAborted();
    const vector = await index?.row(row);
    const isZero = vector?.every((value) => value === 0) === true;
    // A vector with NaN or infinity is as useless as a zero vector.
    if (!isZero && vector?.every(Number.isFinite) === true) continue;
    if (isZero) zeroRows++;
    scratch.prepare("update chunk set zero = 1 where row = ?").run(row);
  }
  const shifted = problems.length === 0 && index !== undefined && index.rows !== chunks.chunks;
  recordStates(database, scratch, { usable: problems.length === 0 ? (index?.rows ?? 0) : 0, shifted });
  if (shifted) {
    problems.push(
      `${INDEX_FILE} has ${index.rows} rows for ${chunks.chunks} chunks; a crash between the writes of the two files shifted them`,
    );
  }

  const count = (sql: string) => Number(scratch.prepare(`select count(*) as n from ${sql}`).get()?.n);
  const inState = (state: VectorState) => count(`memory where state = '${state}'`);
  return {
    index,
    unreadFrom: chunks.unreadFrom,
    findings: {
      problem: problems.length > 0 ? problems.join("; ") : undefined,
      dimensions: index?.dimensions ?? 0,
      rows: index?.rows ?? 0,
      chunks: chunks.chunks,
      states: {
        ok: inState("ok"),
        zero: inState("zero"),
        "partly-zero": inState("partly-zero"),
        missing: inState("missing"),
        "no-row": inState("no-row"),
        unreliable: inState("unreliable"),
      },
      textStale: count("memory where stale = 'text'"),
      metadataStale: count("memory where stale = 'metadata'"),
      tombstones: count("chunk where key is null"),
      tombstonesLinked: count(
        "chunk c where key is null and exists (select 1 from memory m where m.created_at = c.meta_created_at)",
      ),
      orphans: count(`chunk c where ${ORPHANED}`),
      notMapped: count("chunk where key is not null and mapped = 0"),
      zeroRows,
    },
  };
}

/** SQL condition for chunks whose memory no longer exists. */
export const ORPHANED = "key is not null and not exists (select 1 from memory m where m.key = c.key)";

/** Returns the key that joins memories and chunks: the id as JSON, because an id can be any value. */
export function keyOfId(id: StoredValue): string {
  return JSON.stringify(decodeText(id).text);
}

function recordMemories(database: LegacyDatabase, scratch: DatabaseSync): void {
  const insert = scratch.prepare(
    "insert or ignore into memory (key, row, created_at, updated_at) values (?, ?, ?, ?)",
  );
  const real = (value: StoredValue | undefined) => (typeof value === "number" ? value : null);
  let row = 0;
  scratch.exec("begin");
  for (const { id = null, created_at, updated_at } of database.rows(MEMORIES)) {
    insert.run(keyOfId(id), row++, real(created_at), real(updated_at));
  }
  scratch.exec("commit");
}

async function recordChunks(
  directory: string,
  scratch: DatabaseSync,
  signal: AbortSignal,
): Promise<{ readonly chunks: number; readonly problem?: string; readonly unreadFrom?: number | undefined }> {
  const insert = scratch.prepare(
    "insert into chunk (row, key, content, json, meta_created_at, meta_updated_at) values (?, ?, ?, ?, ?, ?)",
  );
  const map = scratch.prepare("update chunk set mapped = 1 where row = ?");
  let chunks = 0;
  let problem: string | undefined;
  let unreadFrom: number | undefined;
  const path = join(directory, CHUNKS_FILE);
  if ((await stat(path).catch(() => undefined))?.isFile() === false)
    return { chunks, problem: "cannot be read (it is not a file)" };
  scratch.exec("begin");
  try {
    for await (const member of readJsonMembers(path, signal)) {
      if (member.kind === "end") {
        problem ??= member.problem;
        ({ unreadFrom } = member);
      }
      if (member.kind !== "element") continue;
      const value = readElement(member.json);
      if (member.key === "id_map") {
        for (const row of Array.isArray(value) ? value : []) if (Number.isInteger(row)) map.run(Number(row));
      } else if (member.key === "chunks") {
        if (value === undefined) problem ??= `has a chunk (${chunks}) that cannot be read`;
        const { text_id = "", content = "", metadata = null } = objectOf(value);
        const { created_at, updated_at } = objectOf(metadata);
        const real = (time: unknown) => (typeof time === "number" ? time : null);
        insert.run(
          chunks++,
          text_id === null ? null : JSON.stringify(text_id),
          typeof content === "string" ? content : JSON.stringify(content),
          member.json,
          real(created_at),
          real(updated_at),
        );
      }
    }
  } catch (error) {
    // Only errors of the file system. The caller handles a missing file.
    if (!(error instanceof Error && "syscall" in error && "code" in error)) throw error;
    if (error.code !== "ENOENT") problem ??= `cannot be read (${error.message})`;
  }
  scratch.exec("commit");
  return { chunks, unreadFrom, ...(problem === undefined ? {} : { problem }) };
}

function recordStates(
  database: LegacyDatabase,
  scratch: DatabaseSync,
  { usable, shifted }: { readonly usable: number; readonly shifted: boolean },
): void {
  scratch
    .prepare(
      `update memory as m set state = (
        select case
          when count(*) = 0 or :usable = 0 then 'missing'
          when :shifted then 'unreliable'
          when max(c.row) >= :usable then 'no-row'
          when sum(c.zero) = count(*) then 'zero'
          when sum(c.zero) > 0 then 'partly-zero'
          else 'ok' end
        from chunk c where c.key = m.key)`,
    )
    .run({ usable, shifted: shifted ? 1 : 0 });
  // Chunks are stale if their update time is before that of the row. This holds without an index, too: such chunks may
  // contain an earlier text that exists nowhere else.
  scratch.exec(
    `update memory as m set stale = 'metadata' where exists (
      select 1 from chunk c where c.key = m.key and c.meta_updated_at < m.updated_at)`,
  );
  const stale = new Set(
    scratch
      .prepare("select row from memory where stale is not null")
      .all()
      .map(({ row }) => Number(row)),
  );
  if (stale.size === 0) return;
  const chunksOf = scratch.prepare("select content from chunk where key = ? order by row");
  const mark = scratch.prepare("update memory set stale = 'text' where row = ?");
  let row = 0;
  for (const { id = null, content = null } of database.rows(MEMORIES)) {
    if (stale.has(row)) {
      const found = chunksOf.all(keyOfId(id)).map((chunk) => String(chunk.content));
      const expected = legacyChunks(decodeText(content).text);
      if (found.length !== expected.length || found.some((text, n) => text !== expected[n])) mark.run(row);
    }
    row++;
  }
}

function readElement(json: string): unknown {
  try {
    return parsePythonJson(json, Number.POSITIVE_INFINITY).value;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : {};
}
