import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readConfig } from "../src/app/config.ts";
import { openDatabase } from "../src/app/open-database.ts";
import type { Database } from "../src/storage/database/database.ts";
import { StartupError } from "../src/util/startup-error.ts";
import { administer, databaseUrl } from "../test/support/postgres/administer.ts";
import { silentLogger } from "../test/support/silent-logger.ts";

export type EngineName = "embedded" | "postgres";

/** An empty database for one run. */
export interface Engine {
  readonly name: EngineName;
  /** The settings that make a server use this database. */
  readonly environment: Readonly<Record<string, string>>;
  /** URL of the database; undefined for the embedded engine. */
  readonly url: string | undefined;
  /** Opens the database in this process. The embedded engine allows that only while no server runs. */
  open(): Promise<Database>;
  remove(): Promise<void>;
}

/**
 * Returns the engines to measure: by default embedded, and PostgreSQL if a server is known.
 *
 * @throws StartupError if PostgreSQL is requested but no server is known.
 */
export function chooseEngines(
  choice: EngineName | "both" | undefined,
  databaseUrl: string | undefined,
): (() => Promise<Engine>)[] {
  const wanted = choice ?? (databaseUrl === undefined ? "embedded" : "both");
  const engines: (() => Promise<Engine>)[] = [];
  if (wanted !== "postgres") engines.push(createEmbedded);
  if (wanted !== "embedded") {
    if (databaseUrl === undefined) {
      throw new StartupError("PostgreSQL needs --database URL, TEST_DATABASE_URL or DATABASE_URL");
    }
    engines.push(() => createOnServer(databaseUrl));
  }
  return engines;
}

/** Measures one engine after another and removes each database afterwards, unless it is to be kept. */
export async function onEachEngine<T>(
  options: {
    readonly engines: readonly (() => Promise<Engine>)[];
    readonly keep?: boolean;
    readonly progress: (line: string) => void;
  },
  measure: (engine: Engine) => Promise<T>,
): Promise<T[]> {
  const results: T[] = [];
  for (const create of options.engines) {
    const engine = await create();
    try {
      results.push(await measure(engine));
    } finally {
      if (options.keep) options.progress(`kept: ${JSON.stringify(engine.environment)}`);
      else await engine.remove();
    }
  }
  return results;
}

async function createEmbedded(): Promise<Engine> {
  const directory = await mkdtemp(join(tmpdir(), "memory-service-bench-"));
  const environment = { MEMORY_DATA_DIR: join(directory, "data") };
  return {
    name: "embedded",
    environment,
    url: undefined,
    open: () => openDatabase(readConfig(environment), silentLogger),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

async function createOnServer(serverUrl: string): Promise<Engine> {
  const name = `memory_bench_${randomUUID().replaceAll("-", "")}`;
  await administer(serverUrl, `create database ${name}`);
  const url = databaseUrl(serverUrl, name);
  const environment = { DATABASE_URL: url };
  return {
    name: "postgres",
    environment,
    url,
    open: () => openDatabase(readConfig(environment), silentLogger),
    remove: () => administer(serverUrl, `drop database if exists ${name} with (force)`),
  };
}

/** Returns the versions, for example `PostgreSQL 18.6, pgvector 0.8.7`. */
export async function versionOf(database: Database): Promise<string> {
  const [row] = await database.query<{ server: string; vector: string }>({
    text: `select split_part(current_setting('server_version'), ' ', 1) as server, extversion as vector
      from pg_extension where extname = 'vector'`,
  });
  return `PostgreSQL ${row?.server}, pgvector ${row?.vector}`;
}
