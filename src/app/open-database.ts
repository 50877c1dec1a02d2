import type { Database } from "../storage/database/database.ts";
import { openEmbeddedDatabase } from "../storage/database/embedded/embedded-database.ts";
import { checkServer } from "../storage/database/server/check-server.ts";
import { openPostgresDatabase } from "../storage/database/server/postgres-database.ts";
import type { Logger } from "../util/logger.ts";
import type { Config } from "./config.ts";

/**
 * Opens the engine that the configuration selects.
 *
 * @throws StartupError with one sentence for the operator.
 */
export async function openDatabase({ settings, postgres }: Config, logger: Logger): Promise<Database> {
  if (postgres === undefined) {
    const directory = settings.MEMORY_DATA_DIR;
    const database = await openEmbeddedDatabase({ directory, logger });
    logger.info(
      { directory },
      "using the embedded engine, which survives a killed process but not a power failure; configure PostgreSQL for durability",
    );
    return database;
  }
  const database = await openPostgresDatabase({
    connection: postgres,
    poolSize: settings.MEMORY_POOL_SIZE,
    statementTimeoutMs: settings.MEMORY_STATEMENT_TIMEOUT_MS,
    preparedStatements: settings.MEMORY_PREPARED_STATEMENTS,
    logger,
  });
  try {
    const versions = await checkServer(database, { logger });
    logger.info({ ...versions }, "connected to PostgreSQL");
    return database;
  } catch (error) {
    await database.close();
    throw error;
  }
}
