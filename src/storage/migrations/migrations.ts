import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "../../util/logger.ts";
import { StartupError } from "../../util/startup-error.ts";
import type { Database, Queryable } from "../database/database.ts";
import { SQLSTATE, sqlstateOf } from "../database/errors.ts";
import { createBm25Indexes } from "./bm25-indexes.ts";
import { domainUpgradeScript, findOutdatedDomains, upgradeDomain } from "./domain-upgrade.ts";
import { type Migration, readMigrations } from "./read-migrations.ts";

/** Directory of the program's own migrations. */
export const sqlDirectory = new URL("../../../sql/", import.meta.url);

export interface MigrateOptions {
  readonly directory: URL | string;
  readonly logger: Logger;
  /** Called with the name of each migration after it is applied. */
  readonly onApplied?: (name: string) => void;
  /** Called with the name of each domain after its tables are upgraded. */
  readonly onUpgraded?: (domain: string) => void;
  readonly signal?: AbortSignal | undefined;
}

interface AppliedRow extends Readonly<Record<string, unknown>> {
  readonly id: number;
  readonly name: string;
  readonly checksum: string;
}

/** Key of the advisory lock that migrations take. Every process uses the same arbitrary number. */
const lockKey = 7_304_812_991n;
const lockPollMs = 50;

/** Checksum of the first migration in every database that was created before the first release. */
const unreleasedChecksum = "05ca2e72f97fb273ca10242cb68b9ae82681da673abda64c945adcf778a3d3ab";

const migrationsTable = `create table if not exists memory_migrations (
  id integer primary key,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now()
)`;

/** Work that `migrate` has done or would do. */
export interface MigrationWork<M> {
  readonly migrations: M[];
  /** Names of the domains whose tables have an older revision, or had one before the upgrade. */
  readonly domains: string[];
}

/**
 * Migrates the database: applies the new files in the order of their numbers, then upgrades the tables of existing
 * domains. Concurrent processes take turns, and all but the first find nothing to do. Each file and each domain has its
 * own transaction, which also records that it is done. After a failure or an interruption, the next call resumes there.
 *
 * Uses one connection from beginning to end, so it does not work through a PgBouncer in transaction mode.
 *
 * @returns the names of the applied migrations and of the upgraded domains.
 * @throws StartupError if a file or a domain fails, if a file has changed since it was applied, or if the database is
 * newer than the program or was created before the first release.
 */
export async function migrate(database: Database, options: MigrateOptions): Promise<MigrationWork<string>> {
  const { logger, signal } = options;
  const migrations = await readMigrations(options.directory);
  return await database.session(async (session) => {
    // Building an index may take longer than the service allows for a statement.
    await session.execute("set statement_timeout = 0");
    await lock(session, signal);
    // Requires the lock: "if not exists" does not protect two concurrent callers from each other.
    await session.execute(migrationsTable).catch((error: unknown) => {
      throw toStartupError("cannot create the table memory_migrations", error);
    });
    const applied: string[] = [];
    for (const migration of findUnapplied(migrations, await readApplied(session))) {
      signal?.throwIfAborted();
      const start = performance.now();
      await apply(session, migration);
      applied.push(migration.name);
      logger.info(
        { migration: migration.name, ms: Math.round(performance.now() - start) },
        "applied a migration",
      );
      options.onApplied?.(migration.name);
    }
    const domains = await findOutdatedDomains(session);
    for (const domain of domains) {
      signal?.throwIfAborted();
      await upgradeDomain(session, domain, logger).catch((error: unknown) => {
        throw toStartupError(`cannot upgrade the tables of domain "${domain}"`, error);
      });
      options.onUpgraded?.(domain);
    }
    await createBm25Indexes(session, logger);
    return { migrations: applied, domains };
  });
}

/**
 * Returns the work that `migrate` would do, in order, without changing anything. It omits BM25 indexes, which are
 * optional. Pending migrations may make further domains outdated.
 *
 * @throws StartupError as `migrate` does.
 */
export async function findPendingWork(
  database: Queryable,
  options: Pick<MigrateOptions, "directory">,
): Promise<MigrationWork<Migration>> {
  const migrations = await readMigrations(options.directory);
  try {
    return {
      migrations: findUnapplied(migrations, await readApplied(database)),
      domains: await findOutdatedDomains(database),
    };
  } catch (error) {
    if (sqlstateOf(error) === SQLSTATE.undefinedTable) return { migrations, domains: [] };
    throw error;
  }
}

/**
 * Describes pending work for an operator, for example `1 pending: 000004_create_text_ranking`. Empty if there is none.
 */
export function describePendingWork({ migrations, domains }: MigrationWork<Migration>): string[] {
  return [
    ...(migrations.length === 0
      ? []
      : [`${migrations.length} pending: ${migrations.map(({ name }) => name).join(", ")}`]),
    ...(domains.length === 0 ? [] : [`domains with tables of an older revision: ${domains.join(", ")}`]),
  ];
}

/**
 * Creates a script for psql that applies and records these migrations and upgrades domains, as `migrate` does, but
 * creates no BM25 indexes. The script takes no lock, so no server may start while it runs.
 */
export function createPsqlScript(migrations: readonly Migration[]): string {
  const parts = migrations.map(({ id, name, checksum, script, inTransaction }) => {
    const values = `${id}, '${name}', '${checksum}'`;
    const body = `${script.trimEnd()}\n\ninsert into memory_migrations (id, name, checksum) values (${values});\n`;
    return `-- ${name}\n${inTransaction ? `begin;\n\n${body}commit;\n` : body}`;
  });
  return [`${migrationsTable};\n`, ...parts, domainUpgradeScript].join("\n");
}

async function lock(session: Queryable, signal: AbortSignal | undefined): Promise<void> {
  // Polls instead of waiting on the server: a waiting statement would hold a snapshot, and a
  // `create index concurrently` of the lock's holder would in turn wait for that snapshot.
  for (;;) {
    const [row] = await session.query<{ locked: boolean }>(
      { text: "select pg_try_advisory_lock($1) as locked" },
      [lockKey],
    );
    if (row?.locked) return;
    await delay(lockPollMs, undefined, { signal });
  }
}

async function readApplied(database: Queryable): Promise<AppliedRow[]> {
  return await database.query<AppliedRow>({
    text: "select id, name, checksum from memory_migrations order by id",
  });
}

function findUnapplied(migrations: readonly Migration[], applied: readonly AppliedRow[]): Migration[] {
  if (applied.some(({ checksum }) => checksum === unreleasedChecksum)) {
    throw new StartupError("the database was created before the first release and cannot be upgraded", {
      remedy:
        'with the earlier version, run "memory-service export --domain NAME > NAME.jsonl" for each domain, ' +
        'then start this version on a new database and run "memory-service import NAME.jsonl" for each file',
    });
  }
  const known = new Map(migrations.map((migration) => [migration.id, migration]));
  for (const row of applied) {
    const migration = known.get(row.id);
    if (migration === undefined) {
      throw new StartupError(
        `the database is newer than this program, which does not know migration ${row.name}`,
        {
          remedy: "run the version of the program that applied it, or a newer one",
        },
      );
    }
    if (migration.name !== row.name || migration.checksum !== row.checksum) {
      throw new StartupError(`migration ${migration.name} has changed since it was applied to the database`, {
        remedy: "reinstall the program to restore the migration",
      });
    }
  }
  const done = new Set(applied.map((row) => row.id));
  return migrations.filter((migration) => !done.has(migration.id));
}

async function apply(session: Queryable, migration: Migration): Promise<void> {
  try {
    if (!migration.inTransaction) {
      await session.execute(migration.script);
      await record(session, migration);
      return;
    }
    await session.execute("begin");
    await session.execute(migration.script);
    await record(session, migration);
    await session.execute("commit");
  } catch (error) {
    // If the connection is lost, the rollback fails too, and the server rolls back on its own.
    if (migration.inTransaction) await session.execute("rollback").catch(() => undefined);
    throw toStartupError(`migration ${migration.name} failed`, error);
  }
}

async function record(session: Queryable, { id, name, checksum }: Migration): Promise<void> {
  await session.query(
    { writes: true, text: "insert into memory_migrations (id, name, checksum) values ($1, $2, $3)" },
    [id, name, checksum],
  );
}

function toStartupError(problem: string, error: unknown): StartupError {
  const remedy = remedies[sqlstateOf(error) ?? ""];
  return new StartupError(`${problem}: ${reasonOf(error)}`, {
    ...(remedy === undefined ? {} : { remedy }),
    cause: error,
  });
}

const remedies: Readonly<Record<string, string>> = {
  [SQLSTATE.insufficientPrivilege]:
    'run "memory-service migrate" as a privileged user, or run "create extension vector" and "grant create on schema public" as one',
  [SQLSTATE.readOnlyTransaction]: "connect to the primary, because this is a read-only replica",
  [SQLSTATE.diskFull]: "free space on the disk of the database",
  // The old memory server had a function of the same name.
  [SQLSTATE.ambiguousFunction]:
    'the old memory server has used this database; run "memory-service adopt" to take over its tables',
  [SQLSTATE.undefinedObject]: "install pgvector on the PostgreSQL server",
};

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
