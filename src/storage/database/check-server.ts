import { ServiceError } from "../../memory/model/errors.ts";
import type { Logger } from "../../util/logger.ts";
import { StartupError } from "../../util/startup-error.ts";
import type { Database } from "./database.ts";
import { SQLSTATE, sqlstateOf } from "./errors.ts";

/** The oldest PostgreSQL the service runs on. */
const MIN_POSTGRES_MAJOR = 15;
/** The first pgvector with iterative index scans, without which a filtered search loses results. */
const MIN_PGVECTOR = "0.8.0";
/** Older versions have known faults when an HNSW index is vacuumed or built in parallel. */
export const RECOMMENDED_PGVECTOR = "0.8.4";

export interface CheckServerOptions {
  readonly logger: Logger;
}

/** What `checkServer` found. */
export interface ServerVersions {
  /** As the server says it: `18.1`. */
  readonly postgres: string;
  readonly pgvector: string;
}

/**
 * Makes sure at start that the database can be reached and is recent enough.
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
  if (server === undefined) throw new StartupError("the database did not tell its version");
  if (server.number < MIN_POSTGRES_MAJOR * 10_000) {
    throw new StartupError(`PostgreSQL ${server.version} is too old`, {
      remedy: `version ${MIN_POSTGRES_MAJOR} or newer is needed`,
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
      "this pgvector has known faults in vacuum and parallel index builds, please update it",
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
        remedy: "create it first, or name another one in DATABASE_URL or POSTGRES_DB",
      };
    case SQLSTATE.tooManyConnections:
      return {
        sentence: `PostgreSQL takes no more connections: ${text}`,
        remedy: "lower MEMORY_POOL_SIZE of its clients, or raise its max_connections",
      };
  }
  return { sentence: `cannot reach PostgreSQL: ${text}`, ...reachRemedy(text) };
}

/** What the driver and PgBouncer tell in words only. */
function reachRemedy(text: string): Pick<Problem, "remedy"> {
  if (/unsupported startup parameter/.test(text)) {
    return { remedy: "set ignore_startup_parameters = options in PgBouncer" };
  }
  if (/password must be a string/.test(text)) {
    return {
      remedy: "the server wants a password: set it in DATABASE_URL, or set POSTGRES_PASSWORD",
    };
  }
  if (/does not support SSL/.test(text)) {
    return { remedy: "remove sslmode from DATABASE_URL, or switch SSL on in the server" };
  }
  if (/certificate|self-signed/.test(text)) {
    return {
      remedy: "give the server's authority with sslrootcert in DATABASE_URL, or use sslmode=no-verify",
    };
  }
  return {
    remedy: "check that it runs, and its address in DATABASE_URL or POSTGRES_HOST and POSTGRES_PORT",
  };
}

function messageOf(error: unknown): string {
  // A name with several addresses fails with one error each and no message of its own.
  if (error instanceof AggregateError && error.errors.length > 0)
    return error.errors.map(messageOf).join(", ");
  return error instanceof Error ? error.message : String(error);
}

/** Compares dotted numbers: negative if `a` is older than `b`. */
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
