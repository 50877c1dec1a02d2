import type { Logger } from "../../src/util/logger.ts";

export interface LogLine {
  readonly level: keyof Logger;
  readonly fields: unknown;
  readonly message: string;
}

/** A logger that keeps its lines, so that a test can wait for them. */
export interface RecordingLogger extends Logger {
  readonly lines: readonly LogLine[];
  /** Resolves with the first matching line, starting at line `from`. */
  whenLogged(pattern: RegExp, from?: number): Promise<LogLine>;
}

export function createRecordingLogger(): RecordingLogger {
  const lines: LogLine[] = [];
  const watchers = new Set<() => void>();
  const log = (level: keyof Logger) => (fields: unknown, message?: unknown) => {
    lines.push({ level, fields, message: String(message ?? fields) });
    for (const watch of watchers) watch();
  };
  return {
    lines,
    debug: log("debug"),
    info: log("info"),
    warn: log("warn"),
    error: log("error"),
    whenLogged(pattern, from = 0) {
      return new Promise((resolve) => {
        const watch = () => {
          const found = lines.slice(from).find((line) => pattern.test(line.message));
          if (found === undefined) return;
          watchers.delete(watch);
          resolve(found);
        };
        watchers.add(watch);
        watch();
      });
    },
  };
}
