import { type Config, readConfig } from "../app/config.ts";
import { openDatabase } from "../app/open-database.ts";
import type { Database } from "../storage/database/database.ts";
import { hasCluster } from "../storage/database/embedded/directory-lock.ts";
import * as migrations from "../storage/migrations/migrations.ts";
import { type Migration, readMigrations } from "../storage/migrations/read-migrations.ts";
import { warningLogger } from "./output/log.ts";

const { sqlDirectory: directory } = migrations;

/**
 * Applies the pending migrations and prints a line for each. With `print`, writes them as a script for psql and changes
 * nothing.
 *
 * @throws StartupError
 */
export async function migrate({ print }: { readonly print: boolean }): Promise<void> {
  const config = readConfig(process.env);
  const upToDate = "already up to date";
  if (print) {
    const pending = await readPending(config);
    process.stdout.write(
      isEmpty(pending) ? `-- ${upToDate}\n` : migrations.createPsqlScript(pending.migrations),
    );
    return;
  }
  await withDatabase(config, async (database) => {
    const done = await migrations.migrate(database, {
      directory,
      logger: warningLogger,
      onApplied: (name) => console.log(`applied ${name}`),
      onUpgraded: (domain) => console.log(`upgraded the tables of domain ${domain}`),
    });
    if (isEmpty(done)) console.log(upToDate);
  });
}

function isEmpty(work: migrations.MigrationWork<unknown>): boolean {
  return work.migrations.length === 0 && work.domains.length === 0;
}

async function readPending(config: Config): Promise<migrations.MigrationWork<Migration>> {
  // Opening the embedded database would create it.
  const absent = config.postgres === undefined && !hasCluster(config.settings.MEMORY_DATA_DIR);
  if (absent) return { migrations: await readMigrations(directory), domains: [] };
  return await withDatabase(config, (database) => migrations.findPendingWork(database, { directory }));
}

async function withDatabase<T>(config: Config, work: (database: Database) => Promise<T>): Promise<T> {
  const database = await openDatabase(config, warningLogger);
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}
