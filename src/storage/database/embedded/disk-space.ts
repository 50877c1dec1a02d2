import { statfsSync } from "node:fs";

/**
 * Free space below which the embedded engine accepts no changes. A full disk would interrupt PostgreSQL during a write,
 * which it does not survive in WebAssembly. The value is the size of four segments of the write-ahead log, 16 MB each,
 * and more than the engine writes between two checks.
 */
export const RESERVED_BYTES = 64 * 1024 * 1024;

/** Interval between two checks. A check takes microseconds. */
const CHECK_INTERVAL_MS = 500;

/** Returns the free bytes of the directory's file system for unprivileged users; infinity if they are unknown. */
export function freeBytesOf(directory: string): number {
  try {
    const { bavail, bsize } = statfsSync(directory);
    return bavail * bsize;
  } catch {
    // For example an unmounted disk, for which the engine reports an error.
    return Number.POSITIVE_INFINITY;
  }
}

export interface DiskWatch {
  stop(): void;
}

/**
 * Calls `onChange` with true when fewer than RESERVED_BYTES are free, and with false when twice as many are free again.
 * With a single limit, the state could alternate quickly. Initially, the space counts as sufficient.
 */
export function watchDiskSpace(freeBytes: () => number, onChange: (low: boolean) => void): DiskWatch {
  let low = false;
  const check = () => {
    const isLow = freeBytes() < (low ? 2 * RESERVED_BYTES : RESERVED_BYTES);
    if (isLow === low) return;
    low = isLow;
    onChange(low);
  };
  const timer = setInterval(check, CHECK_INTERVAL_MS);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}
