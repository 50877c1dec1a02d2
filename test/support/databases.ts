import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { Logger } from "../../src/logger.ts";
import type { Database } from "../../src/storage/database/database.ts";
import { openEmbeddedDatabase } from "../../src/storage/database/embedded-database.ts";
import { openPostgresDatabase } from "../../src/storage/database/postgres-database.ts";
import { migrate, readMigrations, sqlDirectory } from "../../src/storage/migrations.ts";

/** A logger that keeps quiet. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/** One engine that a contract suite runs on. */
export interface DatabaseEngine {
  readonly name: string;
  readonly engine: Database["engine"];
  /** A fresh, prepared database of its own; closing it removes it. */
  open(options?: OpenOptions): Promise<Database>;
}

export interface OpenOptions {
  /** Connections of the pool; the embedded engine always has one. Default 4. */
  readonly poolSize?: number;
  /** Default 30,000; only of the pool. */
  readonly statementTimeoutMs?: number;
}

/** Makes the state that every opened database begins with. */
export type Prepare = (database: Database) => Promise<void>;

/** Applies the program's migrations. */
export const migrated: Prepare = async (database) => {
  await migrate(database, { directory: sqlDirectory, logger: silentLogger });
};

/** Leaves the database as the engine makes it. */
export const empty: Prepare = async () => {};

/**
 * The engines to test on: the embedded one always, a PostgreSQL server where TEST_DATABASE_URL names one (its
 * user must be allowed to create databases). What `prepare` made is copied for each `open`, which costs less
 * than a second; the migrated state is kept between runs too, under the checksums of the migrations.
 *
 *     describe.each(databaseEngines())("on $name", ({ open }) => { ... });
 */
export function databaseEngines(prepare: Prepare = migrated): DatabaseEngine[] {
  const url = testDatabaseUrl();
  const engines = isServerOnly() ? [] : [embeddedEngine(prepare)];
  if (url !== undefined) engines.push(postgresEngine(url, prepare));
  return engines;
}

/** With a second kind of server there is no need to test the embedded engine again. */
export function isServerOnly(): boolean {
  return process.env.TEST_SERVER_ONLY === "true" && testDatabaseUrl() !== undefined;
}

/** The server to test on, if there is one. */
export function testDatabaseUrl(): string | undefined {
  return process.env.TEST_DATABASE_URL || undefined;
}

function embeddedEngine(prepare: Prepare): DatabaseEngine {
  let dump: Promise<ArrayBuffer> | undefined;
  return {
    name: "embedded",
    engine: "embedded",
    async open() {
      dump ??= prepare === migrated ? migratedDump() : dumpOf(prepare);
      return await openEmbeddedDatabase({ logger: silentLogger, loadDataDir: await dump });
    },
  };
}

async function dumpOf(prepare: Prepare): Promise<ArrayBuffer> {
  const database = await openEmbeddedDatabase({ logger: silentLogger });
  try {
    await prepare(database);
    return await database.dump();
  } finally {
    await database.close();
  }
}

/** From a file of the temporary directory: a test file would otherwise pay five seconds for making it. */
async function migratedDump(): Promise<ArrayBuffer> {
  const directory = join(tmpdir(), "memory-service-test");
  const path = join(directory, `migrated-${await migrationsHash()}.tar`);
  try {
    const bytes = await readFile(path);
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  } catch {
    const dump = await dumpOf(migrated);
    await mkdir(directory, { recursive: true });
    // Renamed when complete: other test workers look for it at the same time.
    const unfinished = `${path}.${randomUUID()}`;
    await writeFile(unfinished, new Uint8Array(dump));
    await rename(unfinished, path);
    return dump;
  }
}

/** Changes with the migrations and with the engine's version. */
async function migrationsHash(): Promise<string> {
  const hash = createHash("sha256");
  for (const { name, checksum } of await readMigrations(sqlDirectory)) hash.update(`${name} ${checksum}\n`);
  const lock = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8"));
  for (const [name, version] of Object.entries(lock.dependencies)) {
    if (name.startsWith("@electric-sql/")) hash.update(`${name} ${version}\n`);
  }
  return hash.digest("hex").slice(0, 16);
}

function postgresEngine(url: string, prepare: Prepare): DatabaseEngine {
  let template: Promise<string> | undefined;
  return {
    name: "postgres",
    engine: "postgres",
    async open(options = {}) {
      const name = `memory_test_${randomUUID().replaceAll("-", "")}`;
      if (prepare === migrated) {
        template ??= migratedTemplate(url);
        await administer(url, `create database ${name} template ${await template}`);
      } else {
        await administer(url, `create database ${name}`);
      }
      const own = databaseUrl(url, name);
      const database = await openPostgresDatabase({
        connection: { connectionString: own },
        poolSize: options.poolSize ?? 4,
        ...(options.statementTimeoutMs === undefined
          ? {}
          : { statementTimeoutMs: options.statementTimeoutMs }),
        logger: silentLogger,
      });
      if (prepare !== migrated) await prepare(database);
      const dropped = droppedAtClose(database, () =>
        administer(url, `drop database if exists ${name} with (force)`),
      );
      urls.set(dropped, own);
      return dropped;
    },
  };
}

/** The migrated database that others are copied from. Nobody connects to it: that would forbid copying. */
async function migratedTemplate(url: string): Promise<string> {
  const name = `memory_template_${await migrationsHash()}`;
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    // One test worker makes it, the others wait for that.
    await client.query("select pg_advisory_lock(hashtext($1))", [name]);
    const { rowCount } = await client.query("select from pg_database where datname = $1", [name]);
    if (rowCount === 1) return name;
    await client.query(`drop database if exists ${name}_unfinished with (force)`);
    await client.query(`create database ${name}_unfinished`);
    const database = await openPostgresDatabase({
      connection: { connectionString: databaseUrl(url, `${name}_unfinished`) },
      poolSize: 2,
      logger: silentLogger,
    });
    try {
      await migrated(database);
    } finally {
      await database.close();
    }
    await client.query(`alter database ${name}_unfinished rename to ${name}`);
    return name;
  } finally {
    await client.end();
  }
}

/** URLs of what `open` has opened on a server. */
const urls = new WeakMap<Database, string>();

/** The URL of a database that `open` has opened on a server. */
export function urlOf(database: Database): string {
  const url = urls.get(database);
  if (url === undefined) throw new Error("not a database of a server");
  return url;
}

/** Another pool on the same database, as a second process would have it. */
export async function openSibling(database: Database): Promise<Database> {
  return await openPostgresDatabase({
    connection: { connectionString: urlOf(database) },
    poolSize: 2,
    logger: silentLogger,
  });
}

function droppedAtClose(database: Database, drop: () => Promise<void>): Database {
  let closed: Promise<void> | undefined;
  return new Proxy(database, {
    get(target, property) {
      if (property === "close") {
        return () => {
          closed ??= target.close().then(drop);
          return closed;
        };
      }
      // Bound to the target: its private fields are not the proxy's.
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** The URL of another database on the same server. */
export function databaseUrl(url: string, database: string): string {
  const other = new URL(url);
  other.pathname = `/${database}`;
  return other.href;
}

/** Runs one statement as the server's administrator. */
export async function administer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
