import { readFile } from "node:fs/promises";
import type { Logger } from "../util/logger.ts";
import { StartupError } from "../util/startup-error.ts";

/** The parsed content of some small files, at most a few seconds old. */
export interface WatchedFiles<T> {
  current(): T;
  /** Checks the files immediately. */
  check(): Promise<void>;
  close(): void;
}

/** Time between two checks of the files. */
const INTERVAL_MS = 2_000;

/**
 * Reads files, and reloads them when their content changes. If a reload fails, the previous value stays in use and the
 * error is logged once.
 *
 * Polls instead of watching, because polling also detects a replaced symbolic link, which is how Kubernetes updates
 * files.
 *
 * @throws StartupError if the first read fails.
 */
export async function watchFiles<T>(options: {
  readonly paths: readonly string[];
  /** Description for messages, such as `the API keys`. */
  readonly what: string;
  /** @throws Error with the reason why the content is invalid. */
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
  let loggedReason = "";
  let checking: Promise<void> | undefined;

  async function check(): Promise<void> {
    try {
      const contents = await read();
      if (contents.every((content, index) => seen[index]?.equals(content))) return;
      seen = contents;
      current = parse(contents);
      options.onChange?.(current);
      loggedReason = "";
      logger.info({ paths }, `reloaded ${what}`);
    } catch (error) {
      const reason = reasonOf(error);
      if (reason === loggedReason) return;
      loggedReason = reason;
      logger.error({ paths, reason }, `cannot reload ${what}; the previous content stays in use`);
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
  if (code === "ENOENT") return "the file does not exist";
  if (code === "EACCES") return "permission to read the file is denied";
  if (code === "EISDIR") return "the path is a directory";
  return error.message;
}
