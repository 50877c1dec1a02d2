import { type Logger, pino } from "pino";
import type { SettingValues } from "../../app/config.ts";
import type { Logger as ServiceLogger } from "../../util/logger.ts";
import { createLineFormatter } from "./log-line.ts";

/** Creates the logger of the server: it writes readable lines to a terminal and JSON elsewhere. */
export function createLogger(level: SettingValues["MEMORY_LOG_LEVEL"]): Logger {
  const options = { level, base: null };
  const { stdout, env } = process;
  if (!stdout.isTTY) return pino(options);
  const format = createLineFormatter({ colours: env.NO_COLOR === undefined && env.TERM !== "dumb" });
  return pino(options, { write: (line: string) => void stdout.write(format(line)) });
}

/** Creates a logger that writes JSON to standard error, for commands whose standard output carries a protocol. */
export function createErrorLogger(level: SettingValues["MEMORY_LOG_LEVEL"]): Logger {
  return pino({ level, base: null }, pino.destination({ dest: 2, sync: true }));
}

/** Prints warnings and errors as sentences on standard error, for commands whose standard output holds their result. */
export const warningLogger: ServiceLogger = {
  debug() {},
  info() {},
  warn: (...[, sentence]: unknown[]) => console.error(`memory-service: ${sentence}`),
  error: (...[, sentence]: unknown[]) => console.error(`memory-service: ${sentence}`),
};
