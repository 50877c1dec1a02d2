import { type FileHandle, open, stat } from "node:fs/promises";
import { messageOf } from "../../util/error-message.ts";

/** The vectors of a FAISS index. They are read row by row, so that memory use is constant. */
export interface FaissIndex {
  readonly dimensions: number;
  readonly rows: number;
  /** Reads the vector of a row. @throws RangeError if the index has no such row. */
  row(number: number): Promise<Float32Array>;
  close(): Promise<void>;
}

/** The result of opening an index. */
export type OpenedIndex =
  | { readonly kind: "index"; readonly index: FaissIndex }
  | { readonly kind: "absent" }
  /** `reason` is a predicate that follows the name of the file. */
  | { readonly kind: "unusable"; readonly reason: string };

/** The only index type that the old server wrote: uncompressed vectors, compared by squared distance. */
const FLAT_L2 = "IxF2";
const HEADER_BYTES = 45;
const METRIC_L2 = 1;

/**
 * Opens an `IndexFlatL2` of FAISS. The file is little-endian: type, int32 dimensions, int64 rows, two unused int64,
 * uint8 trained, int32 metric, uint64 number of floats, and the floats.
 */
export async function openFaissIndex(path: string): Promise<OpenedIndex> {
  let file: FileHandle;
  try {
    // Reading a pipe would block forever.
    if (!(await stat(path)).isFile())
      return { kind: "unusable", reason: "cannot be read (it is not a file)" };
    file = await open(path, "r");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return { kind: "absent" };
    return { kind: "unusable", reason: `cannot be read (${messageOf(error)})` };
  }
  try {
    const header = new DataView(new ArrayBuffer(HEADER_BYTES));
    const { bytesRead } = await file.read(header, 0, HEADER_BYTES, 0);
    const problem = headerProblem(header, bytesRead, (await file.stat()).size);
    if (problem !== undefined) {
      await file.close();
      return { kind: "unusable", reason: problem };
    }
    const dimensions = header.getInt32(4, true);
    return {
      kind: "index",
      index: {
        dimensions,
        rows: Number(header.getBigInt64(8, true)),
        row: (number) => readRow(file, dimensions, number),
        close: () => file.close(),
      },
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

function headerProblem(header: DataView, bytesRead: number, size: number): string | undefined {
  if (bytesRead < HEADER_BYTES)
    return `is truncated: it has ${size} bytes, but its header takes ${HEADER_BYTES}`;
  const type = Buffer.from(header.buffer, 0, 4).toString("latin1");
  if (type !== FLAT_L2) {
    return `has the type ${JSON.stringify(type)}; only ${FLAT_L2} (IndexFlatL2) is supported`;
  }
  const metric = header.getInt32(33, true);
  if (metric !== METRIC_L2) return `uses metric ${metric}; only ${METRIC_L2} (L2) is supported`;
  const dimensions = header.getInt32(4, true);
  const rows = header.getBigInt64(8, true);
  const floats = header.getBigUint64(37, true);
  if (dimensions < 1 || rows < 0n || floats !== rows * BigInt(dimensions)) {
    return `is inconsistent: ${rows} rows of ${dimensions} dimensions, but ${floats} numbers`;
  }
  const expected = BigInt(HEADER_BYTES) + floats * 4n;
  if (BigInt(size) !== expected)
    return `is truncated or damaged: it has ${size} bytes instead of ${expected}`;
  return undefined;
}

async function readRow(file: FileHandle, dimensions: number, number: number): Promise<Float32Array> {
  const bytes = new DataView(new ArrayBuffer(dimensions * 4));
  const start = HEADER_BYTES + number * bytes.byteLength;
  const { bytesRead } = await file.read(bytes, 0, bytes.byteLength, start);
  if (bytesRead < bytes.byteLength) throw new RangeError(`the index has no row ${number}`);
  return Float32Array.from({ length: dimensions }, (_, n) => bytes.getFloat32(n * 4, true));
}
