import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** A row as the old server would store it. Bytes are stored as a text with these bytes. */
export interface Row {
  readonly id: string | Uint8Array | null;
  readonly content: string | Uint8Array;
  /** Defaults to the times alone. */
  readonly metadata?: string | Uint8Array;
  readonly created_at?: number | string;
  readonly updated_at?: number | string;
}

/** An entry of faiss_metadata.json, with its vector. */
export interface ChunkRow {
  readonly text_id: string | null;
  readonly content: string;
  /** Defaults to those of the n-th row. */
  readonly created_at?: number;
  readonly updated_at?: number;
  /** Defaults to 1, 0, 0 ... */
  readonly vector?: readonly number[];
}

/** Creation time of the first row. Rows are one second apart. */
export const FIRST_TIME = 1_750_000_000.123456;

/** Writes a data directory as the old server does. */
export async function writeLegacyDirectory(
  path: string,
  rows: Iterable<Row>,
  chunks?: readonly ChunkRow[],
): Promise<string> {
  await mkdir(path, { recursive: true });
  writeMemories(path, rows);
  if (chunks !== undefined) await writeVectors(path, chunks);
  return path;
}

export function writeMemories(path: string, rows: Iterable<Row>): void {
  const database = new DatabaseSync(join(path, "memory.db"));
  database.exec(`create table if not exists memories (
    id TEXT PRIMARY KEY, content TEXT NOT NULL, metadata TEXT NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL);
    begin`);
  const insert = database.prepare(
    "insert into memories values (cast(? as text), cast(? as text), cast(? as text), ?, ?)",
  );
  let n = 0;
  for (const row of rows) {
    const { id, content, created_at = FIRST_TIME + n++, updated_at = created_at } = row;
    const { metadata = `{"created_at": ${created_at}, "updated_at": ${updated_at}}` } = row;
    insert.run(bytesOf(id), bytesOf(content), bytesOf(metadata), created_at, updated_at);
  }
  database.exec("commit");
  database.close();
}

/** Binds a text as bytes, because node:sqlite would truncate it at NUL. */
function bytesOf(value: string | Uint8Array | null): Uint8Array | null {
  return typeof value === "string" ? Buffer.from(value) : value;
}

export async function writeVectors(path: string, chunks: readonly ChunkRow[]): Promise<void> {
  const entries = chunks.map(({ text_id, content, created_at, updated_at }, row) => {
    const times = { created_at: created_at ?? FIRST_TIME + row, updated_at: updated_at ?? FIRST_TIME + row };
    return {
      chunk_index: row,
      text_id,
      chunk_num: 0,
      content,
      metadata: times,
      created_at: FIRST_TIME + row,
    };
  });
  const map: Record<string, number[]> = {};
  for (const [row, { text_id }] of chunks.entries()) {
    if (text_id === null) continue;
    map[text_id] ??= [];
    map[text_id].push(row);
  }
  await writeFile(join(path, "faiss_metadata.json"), JSON.stringify({ chunks: entries, id_map: map }));
  await writeFile(join(path, "faiss_index.bin"), indexOf(chunks.map(({ vector }) => vector ?? [1])));
}

const DIMENSIONS = 768;

/** Builds an IndexFlatL2 of these vectors, padded with zeros. */
export function indexOf(vectors: readonly (readonly number[])[], dimensions = DIMENSIONS): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(45 + vectors.length * dimensions * 4));
  new Uint8Array(bytes.buffer).set(Buffer.from("IxF2"));
  bytes.setInt32(4, dimensions, true);
  bytes.setBigInt64(8, BigInt(vectors.length), true);
  bytes.setBigInt64(16, 1_048_576n, true);
  bytes.setBigInt64(24, 1_048_576n, true);
  bytes.setUint8(32, 1);
  bytes.setInt32(33, 1, true);
  bytes.setBigUint64(37, BigInt(vectors.length * dimensions), true);
  for (const [row, vector] of vectors.entries()) {
    for (const [n, value] of vector.entries()) bytes.setFloat32(45 + (row * dimensions + n) * 4, value, true);
  }
  return new Uint8Array(bytes.buffer);
}
