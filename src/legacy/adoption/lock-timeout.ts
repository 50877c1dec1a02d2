import { setTimeout as sleep } from "node:timers/promises";
import type { Queryable } from "../../storage/database/database.ts";
import { SQLSTATE, sqlstateOf } from "../../storage/database/errors.ts";
import { StartupError } from "../../util/startup-error.ts";

/** Maximum time that a statement waits for a lock. Statements queued behind it wait as long. */
const LOCK_TIMEOUT_MS = 2_000;
const MAX_ATTEMPTS = 60;
const RETRY_DELAY_MS = 500;

/** Runs a script that alters a table. */
export type Alter = (script: string) => Promise<void>;

/** Runs a script with a short lock timeout and retries it, so that other statements do not queue behind it for long. */
export async function executeWithLockTimeout(
  session: Queryable,
  script: string,
  signal: AbortSignal,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await session.execute(`set lock_timeout = ${LOCK_TIMEOUT_MS}`);
      await session.execute(script);
      return;
    } catch (error) {
      await session.execute("rollback").catch(() => {});
      if (sqlstateOf(error) !== SQLSTATE.lockNotAvailable) throw error;
      if (attempt >= MAX_ATTEMPTS) {
        throw new StartupError(
          `cannot lock a table within ${MAX_ATTEMPTS} attempts, because another session uses it`,
          {
            remedy: "end long transactions (see pg_stat_activity), then run adopt again",
            cause: error,
          },
        );
      }
      await sleep(RETRY_DELAY_MS, undefined, { signal });
    } finally {
      await session.execute("set lock_timeout = 0");
    }
  }
}
