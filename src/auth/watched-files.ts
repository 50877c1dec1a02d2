import { readFile } from "node:fs/promises";
import type { Logger } from "../util/logger.ts";
import { StartupError } from "../util/startup-error.ts";

/** What some small files say, as of some seconds ago. */
export interface WatchedFiles<T> {
  current(): T;
  /** Looks at the files now, for who cannot wait. */
  check(): Promise<void>;
  close(): void;
}

/** How often files are looked at. */
const INTERVAL_MS = 2_000;

/**
 * Reads files, and again when what is in them has changed. What cannot be read or understood then changes nothing, and is
 * logged once.
 *
 * By reading and not by watching: that also sees files behind symbolic links that are exchanged, as those of Kubernetes.
 *
 * @throws StartupError if they cannot be read or understood at first.
 */
export async function watchFiles<T>(options: {
  readonly paths: readonly string[];
  /** In words, as `the API keys`. */
  readonly what: string;
  /** @throws Error that says what is wrong. */
  readonly parse: (contents: readonly Buffer[]) => T;
  readonly onChange?: (value: T) => void;
  readonly logger: Logger;
  readonly intervalMs?: number;
}): Promise<WatchedFiles<T>> {
  const { paths, what, parse, logger } = options;
  const read = () => Promise.all(paths.map((path) => readFile(path)));
  let seen: readonly Buffer[];
  let current: T;
  try {
    seen = await read();
    current = parse(seen);
  } catch (error) {
    throw new StartupError(`${what} in ${paths.join(", ")} cannot be used: ${reasonOf(error)}`, {
      cause: error,
    });
  }
  let complaint = "";
  let checking: Promise<void> | undefined;

  async function check(): Promise<void> {
    try {
      const contents = await read();
      if (contents.every((content, index) => seen[index]?.equals(content))) return;
      seen = contents;
      current = parse(contents);
      options.onChange?.(current);
      complaint = "";
      logger.info({ paths }, `read ${what} again`);
    } catch (error) {
      const reason = reasonOf(error);
      if (reason === complaint) return;
      complaint = reason;
      logger.error({ paths, reason }, `cannot read ${what} again, what was read before stays`);
    }
  }

  const checkOnce = () => {
    checking ??= check().finally(() => {
      checking = undefined;
    });
    return checking;
  };
  const timer = setInterval(checkOnce, options.intervalMs ?? INTERVAL_MS).unref();
  return {
    current: () => current,
    check: checkOnce,
    close: () => clearInterval(timer),
  };
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error ? String(error.code) : "";
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES") return "the file may not be read";
  if (code === "EISDIR") return "it is a directory";
  return error.message;
}
