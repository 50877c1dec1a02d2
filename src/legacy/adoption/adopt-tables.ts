import type { Database, Queryable } from "../../storage/database/database.ts";
import { findPendingWork, migrate, sqlDirectory } from "../../storage/migrations/migrations.ts";
import type { Logger } from "../../util/logger.ts";
import { StartupError } from "../../util/startup-error.ts";
import { type AdoptedTable, type AdoptOptions, adoptTable } from "./adopt-table.ts";
import type { AdoptionPlan, PlannedTable } from "./adoption-plan.ts";

export interface AdoptTablesOptions extends Omit<AdoptOptions, "concurrently" | "onStep"> {
  readonly onStep?: (table: PlannedTable, step: string, rows: number) => void;
  readonly logger: Logger;
}

/**
 * Carries out a plan without problems: migrates the database, then adopts one table after the other. If it is
 * interrupted, you can safely run it again.
 *
 * @throws StartupError, for example if another adoption is running.
 */
export async function adoptTables(
  database: Database,
  plan: AdoptionPlan,
  { logger, onStep, ...options }: AdoptTablesOptions,
): Promise<AdoptedTable[]> {
  await prepareCatalogue(database, logger, options.signal);
  return await database.session(async (session) => {
    await session.execute("set statement_timeout = 0");
    const [lock] = await session.query<{ locked: boolean }>({
      text: "select pg_try_advisory_lock(hashtextextended('memory-service adopt', 0)) as locked",
    });
    if (lock?.locked !== true) throw new StartupError("another adopt command is running on this database");
    const done: AdoptedTable[] = [];
    for (const table of plan.tables) {
      done.push(
        await adoptTable(session, table, {
          ...options,
          concurrently: database.engine === "postgres",
          onStep: (step, rows) => onStep?.(table, step, rows),
        }),
      );
    }
    return done;
  });
}

/** Applies the migrations in a database that the old server has used. */
export async function prepareCatalogue(
  database: Database,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  // Refuses a database that cannot be migrated before anything in it changes.
  await findPendingWork(database, { directory: sqlDirectory });
  await dropOldFunction(database);
  await migrate(database, { directory: sqlDirectory, logger, signal });
}

/** Drops the function of the old server, because calls with one argument would resolve to it instead of the new one. */
async function dropOldFunction(database: Queryable): Promise<void> {
  await database.execute("drop function if exists create_domain_memories_table(text)");
}
