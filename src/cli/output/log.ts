import { type Logger, pino } from "pino";
import type { SettingValues } from "../../app/config.ts";
import type { Logger as ServiceLogger } from "../../util/logger.ts";
import { createLineFormatter } from "./log-line.ts";

/** Where log lines go: JSON for machines, lines for people on a terminal. */
export function createLogger(level: SettingValues["MEMORY_LOG_LEVEL"]): Logger {
  const options = { level, base: null };
  const { stdout, env } = process;
  if (!stdout.isTTY) return pino(options);
  const format = createLineFormatter({ colours: env.NO_COLOR === undefined && env.TERM !== "dumb" });
  return pino(options, { write: (line: string) => void stdout.write(format(line)) });
}

/** The same on standard error, for programs that speak a protocol on standard output. */
export function createErrorLogger(level: SettingValues["MEMORY_LOG_LEVEL"]): Logger {
  return pino({ level, base: null }, pino.destination({ dest: 2, sync: true }));
}

/** For commands whose standard output belongs to their result: warnings and errors, a sentence each. */
export const warningLogger: ServiceLogger = {
  debug() {},
  info() {},
  warn: (...[, sentence]: unknown[]) => console.error(`memory-service: ${sentence}`),
  error: (...[, sentence]: unknown[]) => console.error(`memory-service: ${sentence}`),
};
