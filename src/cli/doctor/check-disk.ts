import { statfs } from "node:fs/promises";
import { type Check, ok, problem, warning } from "./check.ts";

const MIB = 1024 ** 2;
/** PostgreSQL stops at a full disk; its write-ahead log alone grows to this. */
const LOW_BYTES = 1024 * MIB;
/** Less than an empty database and some of its log. */
const FULL_BYTES = 128 * MIB;

/** Checks the room for the data directory, by the file system that `existing` is on. */
export async function checkDisk(existing: string): Promise<Check> {
  const { bavail, bsize } = await statfs(existing);
  const free = bavail * bsize;
  const detail = `${formatBytes(free)} are free for the data directory`;
  if (free >= LOW_BYTES) return ok("disk", detail);
  const remedy = "free space, or move the data directory to a larger disk and set MEMORY_DATA_DIR";
  return free < FULL_BYTES
    ? problem("disk", `only ${detail}`, remedy)
    : warning("disk", `only ${detail}`, remedy);
}

/** As `14 MB` or `3.2 GB`. */
export function formatBytes(bytes: number): string {
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
