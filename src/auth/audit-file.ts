import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import type { Logger } from "../util/logger.ts";

/** A file at whose end lines are written, each at once. */
export interface AuditFile {
  /** Never throws. The line has its line feed. */
  write(line: string): void;
  close(): void;
}

/**
 * Lines that wait while the file cannot be written to, since its disk is full: some 20,000 of the usual ones. Later ones are
 * lost, or an outage would take all memory in the end.
 */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;

/** A disk that is full for long must not fill the log, too. */
const COMPLAINT_INTERVAL_MS = 30_000;

/**
 * Opens or creates the file, for its owner alone. A line that cannot be written waits for the next one, before which it is
 * tried again; of one that was written in part the rest comes first, so that none is torn. Not sonic-boom, that of pino:
 * once as much waits as may, it does not try again.
 *
 * @throws the error of the file system
 */
export function openAuditFile(
  path: string,
  logger: Logger,
  options: {
    readonly writeBytes?: (file: number, bytes: Uint8Array) => number;
    /** Milliseconds of a clock that is never set. */
    readonly now?: () => number;
  } = {},
): AuditFile {
  const { writeBytes = writeSync, now = () => performance.now() } = options;
  const file = openSync(path, "a", 0o600);
  const waiting: Uint8Array[] = [];
  let withinLine = endsWithinLine(file, path);
  let waitingBytes = 0;
  let lost = 0;
  let complainedAt = Number.NEGATIVE_INFINITY;

  function add(line: string): void {
    const bytes = Buffer.from(withinLine ? `\n${line}` : line);
    if (waitingBytes + bytes.length > MAX_WAITING_BYTES) {
      lost++;
      return;
    }
    withinLine = false;
    waiting.push(bytes);
    waitingBytes += bytes.length;
  }

  function writeWaiting(): void {
    for (let [next] = waiting; next !== undefined; [next] = waiting) {
      const written = writeBytes(file, next);
      waitingBytes -= written;
      if (written === next.length) waiting.shift();
      else waiting[0] = next.subarray(written);
    }
  }

  /** Tries again before it gives up a line: there may be room by now. */
  function write(line: string): void {
    try {
      writeWaiting();
    } finally {
      add(line);
    }
    writeWaiting();
  }

  function complain(error: unknown): void {
    if (now() - complainedAt < COMPLAINT_INTERVAL_MS) return;
    complainedAt = now();
    logger.error({ err: error, path, waiting: waiting.length, lost }, "the audit file cannot be written to");
  }

  function tellLost(): void {
    if (lost > 0) logger.error({ path, lost }, "lines of the audit are lost");
    lost = 0;
  }

  return {
    write(line) {
      try {
        write(line);
        tellLost();
      } catch (error) {
        complain(error);
      }
    },

    close() {
      try {
        writeWaiting();
      } catch (error) {
        complain(error);
        lost += waiting.length;
      }
      tellLost();
      closeSync(file);
    },
  };
}

/** Whether a server that ended while the disk was full has left a part of a line. */
function endsWithinLine(file: number, path: string): boolean {
  const stats = fstatSync(file);
  // Of a terminal or a pipe there is nothing to read.
  if (!stats.isFile() || stats.size === 0) return false;
  let readable: number;
  try {
    readable = openSync(path, "r");
  } catch {
    // It may only be written to.
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
