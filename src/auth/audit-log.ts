import { pino } from "pino";
import type { Logger } from "../util/logger.ts";
import { StartupError } from "../util/startup-error.ts";
import { type AuditFile, openAuditFile } from "./audit-file.ts";

/** Who did what to which memories or domains; never what is in them. */
export interface AuditEntry {
  /** The caller as `key:ci` or `jwt:agent-7`; "anonymous" where nobody needs credentials. */
  readonly who: string;
  /** The method, as `Store`. */
  readonly action: string;
  /** As `created`, `deleted` or `unchanged`; `failed` with a `reason`. */
  readonly outcome: string;
  /** That of the call in the access log. */
  readonly requestId: string | undefined;
  readonly [fact: string]: unknown;
}

/** Where it is written down who has changed what. */
export interface AuditLog {
  write(entry: AuditEntry): void;
  close(): void;
}

/** Lines of the server's log, marked by `audit: true`; at the level info. */
export function auditIntoLog(logger: Logger): AuditLog {
  return {
    write: (entry) => logger.info({ audit: true, ...entry }, "audit"),
    close: () => {},
  };
}

/**
 * JSON lines at the end of a file, whatever the level of the log. Written before the call is answered; one that cannot be
 * written waits, which is logged, and the call goes on.
 *
 * @throws StartupError
 */
export function auditIntoFile(path: string, logger: Logger): AuditLog {
  const file = openOrRefuse(path, logger);
  const lines = pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, file);
  return {
    write: (entry) => lines.info(entry, "audit"),
    close: () => file.close(),
  };
}

function openOrRefuse(path: string, logger: Logger): AuditFile {
  try {
    return openAuditFile(path, logger);
  } catch (error) {
    throw new StartupError(`the audit file ${path} cannot be written to`, {
      remedy: "set MEMORY_AUDIT_FILE to one that can, or unset it",
      cause: error,
    });
  }
}
