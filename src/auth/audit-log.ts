import { pino } from "pino";
import type { Logger } from "../util/logger.ts";
import { StartupError } from "../util/startup-error.ts";
import { type AuditFile, openAuditFile } from "./audit-file.ts";

/** A record of who did what to which memories or domains. Never includes their content. */
export interface AuditEntry {
  /** The caller, such as `key:ci` or `jwt:agent-7`. "anonymous" if the server requires no credentials. */
  readonly who: string;
  /** The method, such as `Store`. */
  readonly action: string;
  /** The result, such as `created`, `deleted` or `unchanged`. `failed` comes with a `reason`. */
  readonly outcome: string;
  /** Id of the call in the access log. */
  readonly requestId: string | undefined;
  readonly [fact: string]: unknown;
}

/** The destination of audit entries. */
export interface AuditLog {
  write(entry: AuditEntry): void;
  close(): void;
}

/** Writes entries to the server's log at level info, marked with `audit: true`. */
export function auditIntoLog(logger: Logger): AuditLog {
  return {
    write: (entry) => logger.info({ audit: true, ...entry }, "audit"),
    close: () => {},
  };
}

/**
 * Appends entries to a file as JSON lines, independently of the log level. An entry is written before its call is
 * answered. If that fails, the entry is buffered, the failure is logged, and the call continues.
 *
 * @throws StartupError
 */
export function auditIntoFile(path: string, logger: Logger): AuditLog {
  const file = openOrThrow(path, logger);
  const lines = pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, file);
  return {
    write: (entry) => lines.info(entry, "audit"),
    close: () => file.close(),
  };
}

function openOrThrow(path: string, logger: Logger): AuditFile {
  try {
    return openAuditFile(path, logger);
  } catch (error) {
    throw new StartupError(`cannot write to the audit file ${path}`, {
      remedy: "set MEMORY_AUDIT_FILE to a writable file, or unset it",
      cause: error,
    });
  }
}
