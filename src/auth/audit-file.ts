import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import type { Logger } from "../util/logger.ts";

/** An append-only file of lines. Each line is written immediately. */
export interface AuditFile {
  /** Appends a line, which includes its line feed. Never throws. */
  write(line: string): void;
  close(): void;
}

/**
 * Maximum size of the lines buffered while the file cannot be written, for example because the disk is full. That is
 * about 20,000 typical lines. Later lines are dropped, since a long outage would otherwise exhaust the memory.
 */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;

/** Minimum time between two logged errors, so that a full disk does not flood the log. */
const ERROR_LOG_INTERVAL_MS = 30_000;

/**
 * Opens the file, or creates it with access for its owner only. A line that cannot be written is buffered and retried
 * before the next line. After a partial write, the rest of that line comes first, so no line is torn. Pino's sonic-boom
 * does not fit: once its buffer is full, it stops retrying.
 *
 * @throws the error of the file system.
 */
export function openAuditFile(
  path: string,
  logger: Logger,
  options: {
    readonly writeBytes?: (file: number, bytes: Uint8Array) => number;
    /** Returns the time of a monotonic clock, in milliseconds. */
    readonly now?: () => number;
  } = {},
): AuditFile {
  const { writeBytes = writeSync, now = () => performance.now() } = options;
  const file = openSync(path, "a", 0o600);
  const buffered: Uint8Array[] = [];
  let withinLine = endsWithinLine(file, path);
  let bufferedBytes = 0;
  let dropped = 0;
  let loggedAt = Number.NEGATIVE_INFINITY;

  function add(line: string): void {
    const bytes = Buffer.from(withinLine ? `\n${line}` : line);
    if (bufferedBytes + bytes.length > MAX_BUFFERED_BYTES) {
      dropped++;
      return;
    }
    withinLine = false;
    buffered.push(bytes);
    bufferedBytes += bytes.length;
  }

  function flush(): void {
    for (let [next] = buffered; next !== undefined; [next] = buffered) {
      const written = writeBytes(file, next);
      bufferedBytes -= written;
      if (written === next.length) buffered.shift();
      else buffered[0] = next.subarray(written);
    }
  }

  /** Retries the buffered lines first, because there may be room for this line by now. */
  function write(line: string): void {
    try {
      flush();
    } finally {
      add(line);
    }
    flush();
  }

  function logError(error: unknown): void {
    if (now() - loggedAt < ERROR_LOG_INTERVAL_MS) return;
    loggedAt = now();
    logger.error({ err: error, path, buffered: buffered.length, dropped }, "cannot write to the audit file");
  }

  function logDropped(): void {
    if (dropped > 0) logger.error({ path, dropped }, "dropped audit lines");
    dropped = 0;
  }

  return {
    write(line) {
      try {
        write(line);
        logDropped();
      } catch (error) {
        logError(error);
      }
    },

    close() {
      try {
        flush();
      } catch (error) {
        logError(error);
        dropped += buffered.length;
      }
      logDropped();
      closeSync(file);
    },
  };
}

/** Returns whether the file ends with an incomplete line, left by a server that stopped while the disk was full. */
function endsWithinLine(file: number, path: string): boolean {
  const stats = fstatSync(file);
  // A terminal or a pipe has no content to read.
  if (!stats.isFile() || stats.size === 0) return false;
  let readable: number;
  try {
    readable = openSync(path, "r");
  } catch {
    // The file is write-only.
    return false;
  }
  try {
    const last = Buffer.alloc(1);
    readSync(readable, last, 0, 1, stats.size - 1);
    return last.toString() !== "\n";
  } finally {
    closeSync(readable);
  }
}
