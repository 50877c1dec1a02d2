import { accessSync, constants, existsSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Config, SettingValues } from "../../app/config.ts";
import { ServiceError, StartupError } from "../../memory/model/errors.ts";
import type { Database } from "../../storage/database/database.ts";
import { DatabaseError } from "../../storage/database/database.ts";
import { DirectoryInUseError, hasCluster } from "../../storage/database/directory-lock.ts";
import { openEmbeddedDatabase } from "../../storage/database/embedded-database.ts";
import { SQLSTATE, sqlstateOf } from "../../storage/database/errors.ts";
import { openPostgresDatabase, type PostgresAddress } from "../../storage/database/postgres-database.ts";
import type { Logger } from "../../util/logger.ts";
import { databaseName, postgresEndpoint } from "../client/addresses.ts";
import type { ServerProbe } from "../client/probe-server.ts";
import { type Check, ok, problem, warning } from "./check.ts";
import { checkDisk } from "./check-disk.ts";
import { checkEngine } from "./check-engine.ts";
import { checkMigrations } from "./check-migrations.ts";
import { checkPostgres } from "./check-postgres.ts";
import { fetchDomains } from "./fetch-domains.ts";
import { checkIndexes, type InspectedDomain, inspectDomains } from "./inspect-domains.ts";

/** What was found of the database. */
export interface StorageFindings {
  readonly checks: readonly Check[];
  readonly domains: readonly InspectedDomain[];
}

/** Counting every memory of a large domain takes a while. */
const STATEMENT_TIMEOUT_MS = 60_000;

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/** Looks into the configured database, without making or changing anything. */
export async function inspectStorage(
  config: Config,
  server: ServerProbe | undefined,
): Promise<StorageFindings> {
  return config.postgres === undefined
    ? await inspectEmbedded(config, server)
    : await inspectPostgres(config, config.postgres);
}

async function inspectPostgres(config: Config, connection: PostgresAddress): Promise<StorageFindings> {
  const { settings } = config;
  const database = await openPostgresDatabase({
    connection,
    poolSize: 2,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    preparedStatements: false,
    logger: silent,
  });
  return await inspectOpen(database, settings.MEMORY_MIGRATE, async () => [
    ...(await checkEngine(database, `at ${databaseName(config)}`)),
    ...(await checkPostgres(database, postgresEndpoint(connection), settings)),
  ]);
}

async function inspectEmbedded(
  { settings }: Config,
  server: ServerProbe | undefined,
): Promise<StorageFindings> {
  const directory = settings.MEMORY_DATA_DIR;
  const durability = warning(
    "durability",
    "the embedded engine never waits for the disk (no fsync): it survives a killed process, not a power cut",
    "use PostgreSQL (DATABASE_URL) for memories that must not be lost",
  );
  const existing = nearestExisting(directory);
  const unusable = whyUnusable(existing);
  if (unusable !== undefined) {
    const detail = `the data directory ${directory} cannot be used: ${unusable}`;
    const remedy = "check its owner and permissions, or set MEMORY_DATA_DIR";
    return { checks: [problem("database", detail, remedy)], domains: [] };
  }
  const around = [durability, await checkDisk(existing)];
  if (!hasCluster(directory)) {
    const empty = ok(
      "database",
      `embedded engine; there is no data in ${directory} yet, the first start makes it`,
    );
    return { checks: [empty, ...around], domains: [] };
  }
  try {
    const database = await openEmbeddedDatabase({ directory, logger: silent });
    const found = await inspectOpen(database, settings.MEMORY_MIGRATE, () =>
      checkEngine(database, `embedded, in ${directory}`),
    );
    return { ...found, checks: [...found.checks, ...around] };
  } catch (error) {
    if (error instanceof DirectoryInUseError) {
      const found = await inspectInUse(settings, server);
      return { ...found, checks: [...found.checks, ...around] };
    }
    return { checks: [problemFrom("database", error), ...around], domains: [] };
  }
}

/** The server that has the directory open is asked in its place. */
async function inspectInUse(
  settings: SettingValues,
  server: ServerProbe | undefined,
): Promise<StorageFindings> {
  const detail = `embedded engine; the data directory ${settings.MEMORY_DATA_DIR} is in use by`;
  if (server?.kind !== "server") {
    const unread = `${detail} another process, so it cannot be read, and no server answers at MEMORY_HOST and MEMORY_PORT`;
    const remedy = "set them to where that server listens, or stop it";
    return { checks: [warning("database", unread, remedy)], domains: [] };
  }
  try {
    const domains = await fetchDomains(server.url, settings);
    return { checks: [ok("database", `${detail} the running server, so it was asked instead`)], domains };
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    const unread = `${detail} the running server, which could not tell its domains (${error.message})`;
    const remedy =
      error.code === Code.Unauthenticated
        ? "set MEMORY_API_KEY to a key that may read"
        : "see its log, or stop it and try again";
    return { checks: [warning("database", unread, remedy)], domains: [] };
  }
}

/** Closes the database in any case. */
async function inspectOpen(
  database: Database,
  migrates: boolean,
  checkItself: () => Promise<Check[]>,
): Promise<StorageFindings> {
  const checks: Check[] = [];
  const domains: InspectedDomain[] = [];
  try {
    checks.push(...(await checkItself()));
    checks.push(await checkMigrations(database, migrates));
    const found = await inspectDomains(database);
    checks.push(...found.checks, ...(await checkIndexes(database, found.domains)));
    domains.push(...found.domains);
  } catch (error) {
    checks.push(problemFrom("database", error));
  } finally {
    await database.close();
  }
  return { checks, domains };
}

function problemFrom(name: string, error: unknown): Check {
  if (error instanceof StartupError) return problem(name, error.problem, error.remedy);
  if (error instanceof ServiceError || error instanceof DatabaseError) {
    const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
    const refused = sqlstateOf(error) === SQLSTATE.insufficientPrivilege;
    const remedy = refused
      ? "use the user that owns the tables, or grant this one the rights on them"
      : undefined;
    return problem(name, `${error.message}${cause}`, remedy);
  }
  throw error;
}

/** The directory itself, or the one that it would be made in. */
function nearestExisting(directory: string): string {
  let path = resolve(directory);
  while (!existsSync(path) && dirname(path) !== path) path = dirname(path);
  return path;
}

function whyUnusable(path: string): string | undefined {
  if (!statSync(path).isDirectory()) return `${path} is no directory`;
  try {
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return undefined;
  } catch {
    return `${path} cannot be written`;
  }
}
