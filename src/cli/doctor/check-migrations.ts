import type { Database } from "../../storage/database/database.ts";
import { describePendingWork, findPendingWork, sqlDirectory } from "../../storage/migrations/migrations.ts";
import { StartupError } from "../../util/startup-error.ts";
import { type Check, ok, problem, warning } from "./check.ts";

/** Checks whether the database has the schema of this program. `migrates`: whether the server migrates at start. */
export async function checkMigrations(database: Database, migrates: boolean): Promise<Check> {
  const name = "migrations";
  let parts: string[];
  try {
    parts = describePendingWork(await findPendingWork(database, { directory: sqlDirectory }));
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    return problem(name, error.problem, error.remedy);
  }
  if (parts.length === 0) return ok(name, "up to date");
  const detail = parts.join("; ");
  return migrates
    ? warning(name, detail, 'start the server, which applies them, or run "memory-service migrate"')
    : problem(name, `${detail}; MEMORY_MIGRATE is false`, 'run "memory-service migrate"');
}
