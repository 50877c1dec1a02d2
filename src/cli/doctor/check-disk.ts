import { statfs } from "node:fs/promises";
import { type Check, ok, problem, warning } from "./check.ts";

const MIB = 1024 ** 2;
/** PostgreSQL stops when the disk is full. Its write-ahead log alone grows to this size. */
const LOW_BYTES = 1024 * MIB;
/** Too little for an empty database and its log. */
const FULL_BYTES = 128 * MIB;

/** Checks the free space for the data directory, on the file system of `existing`. */
export async function checkDisk(existing: string): Promise<Check> {
  const { bavail, bsize } = await statfs(existing);
  const free = bavail * bsize;
  const detail = `${formatBytes(free)} free for the data directory`;
  if (free >= LOW_BYTES) return ok("disk", detail);
  const remedy = "free space, or move the data directory to a larger disk and set MEMORY_DATA_DIR";
  return free < FULL_BYTES
    ? problem("disk", `only ${detail}`, remedy)
    : warning("disk", `only ${detail}`, remedy);
}

/** Formats a number of bytes, such as `14 MB` or `3.2 GB`. */
export function formatBytes(bytes: number): string {
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
