import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { makeDirectory } from "../../../util/make-directory.ts";
import { StartupError } from "../../../util/startup-error.ts";

/** Major version of PostgreSQL in PGlite. Only the same major version can open a data directory. */
export const EMBEDDED_POSTGRES_MAJOR = 18;

const lockFile = "lock.sqlite";

export interface DirectoryLock {
  /** Unlocks the directory for other processes. Idempotent. */
  release(): void;
}

/** Another process, most likely a running server, uses the directory. */
export class DirectoryInUseError extends StartupError {}

/**
 * Locks the directory for this process, and creates it if necessary. Two processes in one directory would destroy the
 * data. Node.js cannot lock files, but SQLite can, and the operating system releases its lock when the process ends.
 *
 * @throws StartupError if another process uses it, or if it is not writable.
 */
export function lockDirectory(directory: string): DirectoryLock {
  try {
    makeDirectory(resolve(directory), 0o700);
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new StartupError(`the data directory ${directory} cannot be written (${codeOf(error)})`, {
      remedy: "check its owner and permissions, or set MEMORY_DATA_DIR",
      cause: error,
    });
  }
  const { DatabaseSync } = loadSqlite();
  const path = join(directory, lockFile);
  let database: InstanceType<typeof DatabaseSync> | undefined;
  try {
    database = new DatabaseSync(path);
    database.exec("begin exclusive");
  } catch (error) {
    database?.close();
    if (isBusy(error)) {
      throw new DirectoryInUseError(`the data directory ${directory} is in use by another process`, {
        remedy: "stop that one, or set MEMORY_DATA_DIR to another directory",
        cause: error,
      });
    }
    throw new StartupError(`the lock file ${path} cannot be used (${(error as Error).message})`, {
      remedy: "check the directory's permissions and free space, or set MEMORY_DATA_DIR to another directory",
      cause: error,
    });
  }
  const held = database;
  return {
    release() {
      if (held.isOpen) held.close();
    },
  };
}

/** Returns the path of the PostgreSQL cluster in the directory. The first start creates it. */
export function clusterOf(directory: string): string {
  return join(directory, "postgres");
}

/** Tests whether the directory contains a database. If not, opening the directory would create one. */
export function hasCluster(directory: string): boolean {
  return existsSync(clusterOf(directory));
}

/** @throws StartupError if another version of PostgreSQL than the embedded one has created the cluster. */
export function assertUsableCluster(cluster: string): void {
  let version: string;
  try {
    version = readFileSync(join(cluster, "PG_VERSION"), "utf8").trim();
  } catch (error) {
    throw new StartupError(
      `${cluster} is not a data directory of the embedded database: it has no PG_VERSION`,
      { remedy: "set MEMORY_DATA_DIR to another directory, or restore this one", cause: error },
    );
  }
  if (version !== String(EMBEDDED_POSTGRES_MAJOR)) {
    throw new StartupError(
      `the data in ${cluster} was created by PostgreSQL ${version}, but this program embeds PostgreSQL ${EMBEDDED_POSTGRES_MAJOR}`,
      { remedy: "export it with the version that created it and import it into a new directory" },
    );
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}

function isBusy(error: unknown): boolean {
  const sqliteBusy = 5;
  return (error as { readonly errcode?: unknown }).errcode === sqliteBusy;
}

/**
 * Loads node:sqlite without the warning that it is experimental, which would be the first line that an operator sees.
 */
function loadSqlite(): typeof import("node:sqlite") {
  const emitWarning = process.emitWarning;
  process.emitWarning = () => {};
  try {
    return process.getBuiltinModule("node:sqlite");
  } finally {
    process.emitWarning = emitWarning;
  }
}
