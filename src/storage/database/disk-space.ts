import { statfsSync } from "node:fs";

/**
 * Free space below which the embedded engine takes no more changes. A full disk stops PostgreSQL in the middle of a
 * write, and inside WebAssembly it does not survive that. Room for four segments of its write-ahead log, 16 MB each,
 * is more than the engine writes between two looks.
 */
export const RESERVED_BYTES = 64 * 1024 * 1024;

/** How often the disk is looked at; a look costs microseconds. */
const LOOK_MS = 500;

/** Free bytes, for unprivileged users, of the file system that the directory is on; infinite if it cannot be told. */
export function freeBytesOf(directory: string): number {
  try {
    const { bavail, bsize } = statfsSync(directory);
    return bavail * bsize;
  } catch {
    // An unmounted disk, say: the engine will tell.
    return Number.POSITIVE_INFINITY;
  }
}

export interface DiskWatch {
  stop(): void;
}

/**
 * Calls `onChange` with true when fewer than RESERVED_BYTES are free, and with false when there is twice as much
 * again: one limit for both would make the state flutter. Begins with enough.
 */
export function watchDiskSpace(freeBytes: () => number, onChange: (low: boolean) => void): DiskWatch {
  let low = false;
  const look = () => {
    const isLow = freeBytes() < (low ? 2 * RESERVED_BYTES : RESERVED_BYTES);
    if (isLow === low) return;
    low = isLow;
    onChange(low);
  };
  const timer = setInterval(look, LOOK_MS);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}
