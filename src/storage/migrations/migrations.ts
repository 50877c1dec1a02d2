import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { StartupError } from "../../memory/model/errors.ts";
import type { Logger } from "../../util/logger.ts";
import type { Database, Queryable } from "../database/database.ts";
import { SQLSTATE, sqlstateOf } from "../database/errors.ts";
import { createBm25Indexes } from "./bm25-indexes.ts";
import { domainUpgradeScript, outdatedDomains, upgradeDomain } from "./domain-upgrade.ts";

/** The program's own migrations. */
export const sqlDirectory = new URL("../../../sql/", import.meta.url);

/** One file of the directory: `000001_create_catalogue.sql`. */
export interface Migration {
  readonly id: number;
  /** The file's name without `.sql`. */
  readonly name: string;
  readonly script: string;
  /** SHA-256 of the script, in hex. Line ends do not count: git may have changed them. */
  readonly checksum: string;
  /** False where the first line is `-- no transaction`: then the file holds a single statement. */
  readonly inTransaction: boolean;
}

export interface MigrateOptions {
  readonly directory: URL | string;
  readonly logger: Logger;
  /** Called with the name of each migration as soon as it is applied. */
  readonly onApplied?: (name: string) => void;
  /** Called with the name of each domain as soon as its tables are up to date. */
  readonly onUpgraded?: (domain: string) => void;
  readonly signal?: AbortSignal | undefined;
}

interface AppliedRow extends Readonly<Record<string, unknown>> {
  readonly id: number;
  readonly name: string;
  readonly checksum: string;
}

/** The advisory lock of migrations, the same in every process: any number that nobody else takes. */
const lockKey = 7_304_812_991n;
const lockPollMs = 50;

const migrationsTable = `create table if not exists memory_migrations (
  id integer primary key,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now()
)`;

/** What `migrate` has done, or what it would do. */
export interface MigrationWork<M> {
  readonly migrations: M[];
  /** Names of domains whose tables were, or are, of an older revision. */
  readonly domains: string[];
}

/**
 * Brings the database up to date: applies, in the order of their numbers, the files it has not seen, then upgrades
 * the tables of the domains that were made before them. Processes that start at once take turns, and those after
 * the first find nothing to do. Each file and each domain has a transaction of its own, and what is done is
 * recorded in it: after a failure or an interruption the next call goes on from there.
 *
 * Needs a connection of its own for its length: behind a PgBouncer in transaction mode run it around that.
 *
 * @returns the names of what it has done.
 * @throws StartupError if a file or a domain fails, if a file has changed since it was applied, or if the database
 * is newer.
 */
export async function migrate(database: Database, options: MigrateOptions): Promise<MigrationWork<string>> {
  const { logger, signal } = options;
  const migrations = await readMigrations(options.directory);
  return await database.session(async (session) => {
    // An index build takes longer than a statement of the service may.
    await session.execute("set statement_timeout = 0");
    await lock(session, signal);
    // Under the lock: "if not exists" does not protect two callers at once from each other.
    await session.execute(migrationsTable).catch((error: unknown) => {
      throw failure("the table memory_migrations cannot be made", error);
    });
    const applied: string[] = [];
    for (const migration of unapplied(migrations, await appliedRows(session))) {
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
    const domains = await outdatedDomains(session);
    for (const domain of domains) {
      signal?.throwIfAborted();
      await upgradeDomain(session, domain, logger).catch((error: unknown) => {
        throw failure(`the tables of domain "${domain}" cannot be brought up to date`, error);
      });
      options.onUpgraded?.(domain);
    }
    await createBm25Indexes(session, logger);
    return { migrations: applied, domains };
  });
}

/**
 * What `migrate` would do but for BM25 indexes, which a database can be without; in order. Migrations that are pending
 * may make further domains outdated. Changes nothing.
 *
 * @throws StartupError as `migrate` does.
 */
export async function pending(
  database: Queryable,
  options: Pick<MigrateOptions, "directory">,
): Promise<MigrationWork<Migration>> {
  const migrations = await readMigrations(options.directory);
  try {
    return {
      migrations: unapplied(migrations, await appliedRows(database)),
      domains: await outdatedDomains(database),
    };
  } catch (error) {
    if (sqlstateOf(error) === SQLSTATE.undefinedTable) return { migrations, domains: [] };
    throw error;
  }
}

/** What is pending, in words for an operator, such as `1 pending: 000004_extend_domains`. Empty: nothing. */
export function describePending({ migrations, domains }: MigrationWork<Migration>): string[] {
  return [
    ...(migrations.length === 0
      ? []
      : [`${migrations.length} pending: ${migrations.map(({ name }) => name).join(", ")}`]),
    ...(domains.length === 0 ? [] : [`domains with tables of an older revision: ${domains.join(", ")}`]),
  ];
}

/**
 * A script for psql that does what `migrate` does with these migrations, including the record of it and the upgrade
 * of domains, but makes no BM25 index. It takes no lock: run it while no server starts.
 */
export function scriptOf(migrations: readonly Migration[]): string {
  const parts = migrations.map(({ id, name, checksum, script, inTransaction }) => {
    const values = `${id}, '${name}', '${checksum}'`;
    const body = `${script.trimEnd()}\n\ninsert into memory_migrations (id, name, checksum) values (${values});\n`;
    return `-- ${name}\n${inTransaction ? `begin;\n\n${body}commit;\n` : body}`;
  });
  return [`${migrationsTable};\n`, ...parts, domainUpgradeScript].join("\n");
}

/** Every migration of the directory, in the order of its number. */
export async function readMigrations(directory: URL | string): Promise<Migration[]> {
  const path = typeof directory === "string" ? directory : fileURLToPath(directory);
  const migrations: Migration[] = [];
  const files = await readdir(path).catch((error: unknown) => {
    throw new StartupError(`the migrations in ${path} cannot be read`, {
      remedy: "install the program anew, with its directory sql",
      cause: error,
    });
  });
  for (const file of files.filter((name) => name.endsWith(".sql")).sort()) {
    const number = /^(\d{6})_[a-z0-9_]+\.sql$/.exec(file)?.[1];
    if (number === undefined) {
      throw new StartupError(
        `${file} is no name for a migration: they are named like 000001_create_catalogue.sql`,
      );
    }
    const script = (await readFile(join(path, file), "utf8")).replaceAll("\r\n", "\n");
    migrations.push({
      id: Number(number),
      name: file.slice(0, -".sql".length),
      script,
      checksum: createHash("sha256").update(script).digest("hex"),
      inTransaction: !/^-- no transaction\b/.test(script),
    });
  }
  const twice = migrations.find((migration, i) => migrations[i - 1]?.id === migration.id);
  if (twice !== undefined) throw new StartupError(`two migrations have the number ${twice.id}`);
  return migrations;
}

async function lock(session: Queryable, signal: AbortSignal | undefined): Promise<void> {
  // Asked again and again and not waited for in the server: there, the waiting statement would hold a snapshot,
  // for whose end a `create index concurrently` of the lock's holder waits in turn.
  for (;;) {
    const [answer] = await session.query<{ locked: boolean }>(
      { text: "select pg_try_advisory_lock($1) as locked" },
      [lockKey],
    );
    if (answer?.locked) return;
    await delay(lockPollMs, undefined, { signal });
  }
}

async function appliedRows(database: Queryable): Promise<AppliedRow[]> {
  return await database.query<AppliedRow>({
    text: "select id, name, checksum from memory_migrations order by id",
  });
}

function unapplied(migrations: readonly Migration[], applied: readonly AppliedRow[]): Migration[] {
  const known = new Map(migrations.map((migration) => [migration.id, migration]));
  for (const row of applied) {
    const migration = known.get(row.id);
    if (migration === undefined) {
      throw new StartupError(
        `the database is newer than this program: it has migration ${row.name}, which is unknown here`,
        { remedy: "run the version of the program that made it, or a newer one" },
      );
    }
    if (migration.name !== row.name || migration.checksum !== row.checksum) {
      throw new StartupError(`migration ${migration.name} is not the one that was applied to the database`, {
        remedy: "applied migrations must not change, install the program anew",
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
    // On a lost connection this fails too, and the server rolls back by itself.
    if (migration.inTransaction) await session.execute("rollback").catch(() => undefined);
    throw failure(`migration ${migration.name} failed`, error);
  }
}

async function record(session: Queryable, { id, name, checksum }: Migration): Promise<void> {
  await session.query({ text: "insert into memory_migrations (id, name, checksum) values ($1, $2, $3)" }, [
    id,
    name,
    checksum,
  ]);
}

function failure(what: string, error: unknown): StartupError {
  const remedy = remedies[sqlstateOf(error) ?? ""];
  return new StartupError(`${what}: ${reasonOf(error)}`, {
    ...(remedy === undefined ? {} : { remedy }),
    cause: error,
  });
}

const remedies: Readonly<Record<string, string>> = {
  [SQLSTATE.insufficientPrivilege]:
    'let a privileged user run "memory-service migrate", or "create extension vector" and "grant create on schema public"',
  [SQLSTATE.readOnlyTransaction]: "this is a read-only replica, connect to the primary",
  [SQLSTATE.diskFull]: "free space on the disk of the database",
  // The old server had a function of the same name.
  [SQLSTATE.ambiguousFunction]:
    'the old memory server has used this database, run "memory-service adopt" to take over its tables',
  [SQLSTATE.undefinedObject]: "install pgvector on the PostgreSQL server",
};

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
