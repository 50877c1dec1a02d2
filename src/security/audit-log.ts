import { closeSync, openSync } from "node:fs";
import { destination, pino } from "pino";
import { StartupError } from "../errors.ts";
import type { Logger } from "../logger.ts";

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
 * written is logged, and the call goes on.
 *
 * @throws StartupError
 */
export function auditIntoFile(path: string, logger: Logger): AuditLog {
  try {
    closeSync(openSync(path, "a", 0o600));
  } catch (error) {
    throw new StartupError(`the audit file ${path} cannot be written to`, {
      remedy: "set MEMORY_AUDIT_FILE to one that can, or unset it",
      cause: error,
    });
  }
  const file = destination({ dest: path, append: true, sync: true });
  file.on("error", (error: unknown) =>
    logger.error({ err: error, path }, "the audit file cannot be written to"),
  );
  const lines = pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, file);
  return {
    write: (entry) => lines.info(entry, "audit"),
    close: () => file.end(),
  };
}
