import { ServiceError } from "../../../memory/model/errors.ts";
import type { Logger } from "../../../util/logger.ts";
import { StartupError } from "../../../util/startup-error.ts";
import type { Database } from "../database.ts";
import { SQLSTATE, sqlstateOf } from "../errors.ts";

/** Minimum major version of PostgreSQL. */
const MIN_POSTGRES_MAJOR = 15;
/** Minimum version of pgvector: the first with iterative index scans, without which filtered searches miss results. */
const MIN_PGVECTOR = "0.8.0";
/** Recommended version of pgvector. Older ones have known bugs in vacuum and in parallel builds of HNSW indexes. */
export const RECOMMENDED_PGVECTOR = "0.8.4";

export interface CheckServerOptions {
  readonly logger: Logger;
}

/** Versions that `checkServer` has found. */
export interface ServerVersions {
  /** Version as the server reports it, for example `18.1`. */
  readonly postgres: string;
  readonly pgvector: string;
}

/**
 * Checks at start that the database is reachable and recent enough.
 *
 * @throws StartupError with one sentence for the operator.
 */
export async function checkServer(database: Database, options: CheckServerOptions): Promise<ServerVersions> {
  await connect(database);
  const [server] = await database.query<{ version: string; number: number; pgvector: string | null }>({
    text: `select current_setting('server_version') as version,
       current_setting('server_version_num')::int as number,
       (select coalesce(installed_version, default_version) from pg_available_extensions where name = 'vector')
         as pgvector`,
  });
  if (server === undefined) throw new StartupError("the database did not report its version");
  if (server.number < MIN_POSTGRES_MAJOR * 10_000) {
    throw new StartupError(`PostgreSQL ${server.version} is too old`, {
      remedy: `upgrade the server to version ${MIN_POSTGRES_MAJOR} or newer`,
    });
  }
  if (server.pgvector === null) {
    throw new StartupError("the PostgreSQL server does not have the pgvector extension", {
      remedy: `install pgvector ${RECOMMENDED_PGVECTOR} or newer on it`,
    });
  }
  if (compareVersions(server.pgvector, MIN_PGVECTOR) < 0) {
    throw new StartupError(`pgvector ${server.pgvector} is too old`, {
      remedy:
        `install version ${MIN_PGVECTOR} or newer on the PostgreSQL server ` +
        `(where it is installed already, run "alter extension vector update" in the database)`,
    });
  }
  if (compareVersions(server.pgvector, RECOMMENDED_PGVECTOR) < 0) {
    options.logger.warn(
      { pgvector: server.pgvector, recommended: RECOMMENDED_PGVECTOR },
      "this version of pgvector has known bugs in vacuum and parallel index builds; update it",
    );
  }
  return { postgres: server.version, pgvector: server.pgvector };
}

async function connect(database: Database): Promise<void> {
  try {
    await database.query({ text: "select 1" });
  } catch (error) {
    const { sentence, remedy } = describeProblem(error);
    throw new StartupError(sentence, { remedy, cause: error });
  }
}

interface Problem {
  readonly sentence: string;
  readonly remedy: string;
}

function describeProblem(error: unknown): Problem {
  const driver = error instanceof ServiceError ? (error.cause ?? error) : error;
  const text = messageOf(driver);
  switch (sqlstateOf(driver)) {
    case SQLSTATE.invalidPassword:
    case SQLSTATE.invalidAuthorization:
      return {
        sentence: `PostgreSQL refused the login: ${text}`,
        remedy: "check the user and password in DATABASE_URL, or POSTGRES_USER and POSTGRES_PASSWORD",
      };
    case SQLSTATE.databaseDoesNotExist:
      return {
        sentence: text,
        remedy: "create the database, or select another one in DATABASE_URL or POSTGRES_DB",
      };
    case SQLSTATE.tooManyConnections:
      return {
        sentence: `PostgreSQL accepts no more connections: ${text}`,
        remedy: "lower MEMORY_POOL_SIZE, or raise max_connections of the server",
      };
  }
  return { sentence: `cannot reach PostgreSQL: ${text}`, ...reachRemedy(text) };
}

/** Returns the remedy for errors that the driver and PgBouncer report only as text. */
function reachRemedy(text: string): Pick<Problem, "remedy"> {
  if (/unsupported startup parameter/.test(text)) {
    return { remedy: "set ignore_startup_parameters = options in PgBouncer" };
  }
  if (/password must be a string/.test(text)) {
    return {
      remedy: "set the password in DATABASE_URL or POSTGRES_PASSWORD, because the server requires one",
    };
  }
  if (/does not support SSL/.test(text)) {
    return { remedy: "remove sslmode from DATABASE_URL, or enable SSL on the server" };
  }
  if (/certificate|self-signed/.test(text)) {
    return {
      remedy:
        "set sslrootcert in DATABASE_URL to the certificate of the server's authority, or use sslmode=no-verify",
    };
  }
  return {
    remedy:
      "check that the server runs, and check its address in DATABASE_URL or POSTGRES_HOST and POSTGRES_PORT",
  };
}

function messageOf(error: unknown): string {
  // A host name with several addresses fails with one error for each address and has no message of its own.
  if (error instanceof AggregateError && error.errors.length > 0)
    return error.errors.map(messageOf).join(", ");
  return error instanceof Error ? error.message : String(error);
}

/** Compares two dotted version numbers. Returns a negative number if `a` is older than `b`. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) =>
    version.split(".").map((part) => Number.parseInt(part, 10) || 0),
  );
  for (let i = 0; i < Math.max(left?.length ?? 0, right?.length ?? 0); i++) {
    const difference = (left?.[i] ?? 0) - (right?.[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
