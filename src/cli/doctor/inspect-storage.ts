import { accessSync, constants, existsSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Config, SettingValues } from "../../app/config.ts";
import { ServiceError } from "../../memory/model/errors.ts";
import type { Database } from "../../storage/database/database.ts";
import { DatabaseError } from "../../storage/database/database.ts";
import { DirectoryInUseError, hasCluster } from "../../storage/database/embedded/directory-lock.ts";
import { openEmbeddedDatabase } from "../../storage/database/embedded/embedded-database.ts";
import { SQLSTATE, sqlstateOf } from "../../storage/database/errors.ts";
import {
  openPostgresDatabase,
  type PostgresAddress,
} from "../../storage/database/server/postgres-database.ts";
import { silentLogger } from "../../util/logger.ts";
import { StartupError } from "../../util/startup-error.ts";
import { databaseName, postgresEndpoint } from "../client/addresses.ts";
import type { ServerProbe } from "../client/probe-server.ts";
import { type Check, ok, problem, warning } from "./check.ts";
import { checkDisk } from "./check-disk.ts";
import { checkEngine } from "./check-engine.ts";
import { checkMigrations } from "./check-migrations.ts";
import { checkPostgres } from "./check-postgres.ts";
import { fetchDomains } from "./fetch-domains.ts";
import { checkIndexes, type InspectedDomain, inspectDomains } from "./inspect-domains.ts";

/** The checks of the database and the domains in it. */
export interface StorageFindings {
  readonly checks: readonly Check[];
  readonly domains: readonly InspectedDomain[];
}

/** Long enough to count every memory of a large domain. */
const STATEMENT_TIMEOUT_MS = 60_000;

/** Inspects the configured database without changing anything. */
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
    logger: silentLogger,
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
    "the embedded engine does not fsync; it survives a killed process, but not a power failure",
    "use PostgreSQL (DATABASE_URL) for memories that must not be lost",
  );
  const existing = nearestExisting(directory);
  const unusable = unusableReason(existing);
  if (unusable !== undefined) {
    const detail = `the data directory ${directory} cannot be used: ${unusable}`;
    const remedy = "check its owner and permissions, or set MEMORY_DATA_DIR";
    return { checks: [problem("database", detail, remedy)], domains: [] };
  }
  const common = [durability, await checkDisk(existing)];
  if (!hasCluster(directory)) {
    const empty = ok("database", `embedded engine; ${directory} has no data yet, the first start creates it`);
    return { checks: [empty, ...common], domains: [] };
  }
  try {
    const database = await openEmbeddedDatabase({ directory, logger: silentLogger });
    const found = await inspectOpen(database, settings.MEMORY_MIGRATE, () =>
      checkEngine(database, `embedded, in ${directory}`),
    );
    return { ...found, checks: [...found.checks, ...common] };
  } catch (error) {
    if (error instanceof DirectoryInUseError) {
      const found = await inspectInUse(settings, server);
      return { ...found, checks: [...found.checks, ...common] };
    }
    return { checks: [problemFrom("database", error), ...common], domains: [] };
  }
}

/** Asks the server that has the directory open for its domains. */
async function inspectInUse(
  settings: SettingValues,
  server: ServerProbe | undefined,
): Promise<StorageFindings> {
  const detail = `embedded engine; the data directory ${settings.MEMORY_DATA_DIR} is in use by`;
  if (server?.kind !== "server") {
    const unread = `${detail} another process and cannot be read, and no server is running at MEMORY_HOST and MEMORY_PORT`;
    const remedy = "set them to the address of that server, or stop it";
    return { checks: [warning("database", unread, remedy)], domains: [] };
  }
  try {
    const domains = await fetchDomains(server.url, settings);
    return { checks: [ok("database", `${detail} the running server, which reports the domains`)], domains };
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    const unread = `${detail} the running server, which did not list its domains (${error.message})`;
    const remedy =
      error.code === Code.Unauthenticated
        ? "set MEMORY_API_KEY to a key with a read scope"
        : "see its log, or stop it and run doctor again";
    return { checks: [warning("database", unread, remedy)], domains: [] };
  }
}

/** Runs the checks on an open database, and closes it. */
async function inspectOpen(
  database: Database,
  migrates: boolean,
  runChecks: () => Promise<Check[]>,
): Promise<StorageFindings> {
  const checks: Check[] = [];
  const domains: InspectedDomain[] = [];
  try {
    checks.push(...(await runChecks()));
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
      ? "connect as the owner of the tables, or grant this user the privileges on them"
      : undefined;
    return problem(name, `${error.message}${cause}`, remedy);
  }
  throw error;
}

/** Returns the directory, or its nearest parent that exists. */
function nearestExisting(directory: string): string {
  let path = resolve(directory);
  while (!existsSync(path) && dirname(path) !== path) path = dirname(path);
  return path;
}

function unusableReason(path: string): string | undefined {
  if (!statSync(path).isDirectory()) return `${path} is not a directory`;
  try {
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return undefined;
  } catch {
    return `${path} is not writable`;
  }
}
