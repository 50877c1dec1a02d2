import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import pg from "pg";
import type { Database } from "../../../src/storage/database/database.ts";
import {
  type EmbeddedDatabase,
  openEmbeddedDatabase,
} from "../../../src/storage/database/embedded/embedded-database.ts";
import { databaseUnavailable } from "../../../src/storage/database/errors.ts";
import { openPostgresDatabase } from "../../../src/storage/database/server/postgres-database.ts";
import { migrate, sqlDirectory } from "../../../src/storage/migrations/migrations.ts";
import { silentLogger } from "../silent-logger.ts";
import { administer, databaseUrl } from "./administer.ts";
import { keptState, stateHash } from "./kept-state.ts";
import { isServerOnly, testDatabaseUrl } from "./postgres-server.ts";

/** An engine that a contract suite runs on. */
export interface DatabaseEngine {
  readonly name: string;
  readonly engine: Database["engine"];
  /** Opens a separate prepared database, which the caller closes. */
  open(options?: OpenOptions): Promise<Database>;
}

export interface OpenOptions {
  /** Connections of the pool; defaults to 4. The embedded engine always has one. */
  readonly poolSize?: number;
  /** Defaults to 30,000; applies only to the pool. */
  readonly statementTimeoutMs?: number;
  /** Opens an engine that no test has used, which takes seconds; only for the embedded one. Defaults to false. */
  readonly fresh?: boolean;
}

/** Prepares the state that every opened database starts with. */
export type Prepare = (database: Database) => Promise<void>;

/** Applies the program's migrations. */
export const migrated: Prepare = async (database) => {
  await migrate(database, { directory: sqlDirectory, logger: silentLogger });
};

/** Leaves the database as the engine creates it. */
export const empty: Prepare = async () => {};

/**
 * Returns the engines to test on: always the embedded one, and a PostgreSQL server if TEST_DATABASE_URL names one (its
 * user must be allowed to create databases). Each `open` copies the result of `prepare` in less than a second. The
 * migrated state is also kept between runs, under the checksums of the migrations.
 *
 *     describe.each(databaseEngines())("on $name", ({ open }) => { ... });
 */
export function databaseEngines(prepare: Prepare = migrated): DatabaseEngine[] {
  const url = testDatabaseUrl();
  const engines = isServerOnly() ? [] : [embeddedEngine(prepare)];
  if (url !== undefined) engines.push(postgresEngine(url, prepare));
  return engines;
}

/** Idle engines of this process by the preparation they started with. They end with the process. */
const idleEngines = new Map<Prepare, EmbeddedDatabase[]>();

function embeddedEngine(prepare: Prepare): DatabaseEngine {
  let dump: Promise<ArrayBuffer> | undefined;
  const idle = idleEngines.get(prepare) ?? [];
  idleEngines.set(prepare, idle);
  return {
    name: "embedded",
    engine: "embedded",
    async open({ fresh = false } = {}) {
      dump ??= prepare === migrated ? migratedDump() : dumpOf(prepare);
      const openNew = async () => openEmbeddedDatabase({ logger: silentLogger, loadDataDir: await dump });
      if (fresh) return await openNew();
      const used = idle.pop();
      const database = used !== undefined && (await isMadeAnew(used, prepare)) ? used : await openNew();
      return closedBy(database, async () => void idle.push(database));
    },
  };
}

/**
 * Resets a used database to its state after opening, in a fifth of the time of opening one. If that fails, closes the
 * database and returns false.
 */
async function isMadeAnew(database: EmbeddedDatabase, prepare: Prepare): Promise<boolean> {
  try {
    await database.execute(
      "select pg_advisory_unlock_all(); reset all; drop schema public cascade; create schema public",
    );
    await prepare(database);
    return true;
  } catch {
    await database.close();
    return false;
  }
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

/** Keeps the prepared state, which would otherwise take each test file five seconds to create. */
async function migratedDump(): Promise<ArrayBuffer> {
  const path = await keptState("migrated", async (unfinished) => {
    await writeFile(unfinished, new Uint8Array(await dumpOf(migrated)));
  });
  const bytes = await readFile(path);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
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
      const dropped = closedBy(database, async () => {
        await database.close();
        await administer(url, `drop database if exists ${name} with (force)`);
      });
      urls.set(dropped, own);
      return dropped;
    },
  };
}

/** Returns the migrated template database. No test connects to it, because a connection would prevent copying. */
async function migratedTemplate(url: string): Promise<string> {
  const name = `memory_template_${await stateHash()}`;
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    // One test worker creates it while the others wait for the lock.
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

/** URLs of the databases that `open` has opened on a server. */
const urls = new WeakMap<Database, string>();

/** Returns the URL of a database that `open` has opened on a server. */
export function urlOf(database: Database): string {
  const url = urls.get(database);
  if (url === undefined) throw new Error("the database is not on a server");
  return url;
}

/** Opens another pool on the same database, as a second process would. */
export async function openSibling(database: Database): Promise<Database> {
  return await openPostgresDatabase({
    connection: { connectionString: urlOf(database) },
    poolSize: 2,
    logger: silentLogger,
  });
}

/** Replaces the `close` of a database, and makes every later call fail. */
function closedBy(database: Database, close: () => Promise<void>): Database {
  let closed: Promise<void> | undefined;
  return new Proxy(database, {
    get(target, property) {
      if (property === "close") {
        return () => {
          closed ??= close();
          return closed;
        };
      }
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      if (closed !== undefined) return refuse;
      // Bound to the target: its private fields are not the proxy's.
      return value.bind(target);
    },
  });
}

async function refuse(): Promise<never> {
  throw databaseUnavailable(undefined, "the database is closed");
}
