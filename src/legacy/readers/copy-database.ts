import { constants } from "node:fs";
import { copyFile, open, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { messageOf } from "../../util/error-message.ts";
import { StartupError } from "../../util/startup-error.ts";

export const DATABASE_FILE = "memory.db";

const SQLITE_HEADER = "SQLite format 3\0";
/** Length of a journal's header. SQLite fills the header with zeros after the transaction. */
const JOURNAL_HEADER_BYTES = 28;
const SQLITE_BUSY = 5;
/** Suffixes of the files that belong to a database. */
const COMPANION_SUFFIXES = ["-journal", "-wal"];

/**
 * Copies the old database, with its journal or write-ahead log, into `scratch`. In the copy, SQLite can complete or
 * roll back an interrupted write; the original is only read. Returns the path of the copy.
 *
 * @throws StartupError if the database does not exist, is not a SQLite database or is being written to.
 */
export async function copyDatabase(directory: string, scratch: string): Promise<string> {
  const path = join(directory, DATABASE_FILE);
  await assertSqlite(directory, path);
  // The journal is next to the file itself, not next to a symbolic link to it.
  const original = await realpath(path);
  const copy = join(scratch, DATABASE_FILE);
  // POSIX drops the lock when any descriptor of the file is closed; the copy closes the first one, which is late
  // enough.
  const unlock = await lockForReading(original);
  try {
    const before = await modificationTimes(original);
    await copyFile(original, copy, constants.COPYFILE_FICLONE);
    for (const suffix of COMPANION_SUFFIXES) {
      await copyFile(`${original}${suffix}`, `${copy}${suffix}`).catch(rethrowUnlessAbsent);
    }
    if ((await modificationTimes(original)) !== before) throw lockedError(original);
  } catch (error) {
    throw error instanceof StartupError ? error : unreadableError(original, error);
  } finally {
    unlock();
  }
  return copy;
}

/** Returns the modification times of the database files, to detect a write during the copy. */
async function modificationTimes(original: string): Promise<string> {
  const times = ["", ...COMPANION_SUFFIXES].map(async (suffix) => {
    const found = await stat(`${original}${suffix}`, { bigint: true }).catch(rethrowUnlessAbsent);
    return found?.mtimeNs;
  });
  return (await Promise.all(times)).join();
}

async function assertSqlite(directory: string, path: string): Promise<void> {
  const found = await stat(directory).catch((error: unknown) => {
    if (isAbsent(error)) throw new StartupError(`the directory ${directory} does not exist`);
    throw unreadableError(directory, error);
  });
  if (!found.isDirectory()) {
    throw new StartupError(
      `${directory} is not a directory; pass the directory that contains ${DATABASE_FILE}`,
    );
  }
  const database = await stat(path).catch((error: unknown) => {
    if (isAbsent(error)) {
      throw new StartupError(
        `${directory} does not contain ${DATABASE_FILE}; pass the directory that MCP_DATA_DIR named, or in which the old server was started`,
      );
    }
    throw unreadableError(path, error);
  });
  // Reading a pipe would block forever.
  if (!database.isFile()) throw new StartupError(`${path} is not a file; restore it from a backup`);
  const header = await readHeader(path, SQLITE_HEADER.length).catch((error: unknown) => {
    throw unreadableError(path, error);
  });
  if (header.length === 0)
    throw new StartupError(`${path} is empty; the old server never stored anything in it`);
  if (header.toString("latin1") !== SQLITE_HEADER) {
    throw new StartupError(
      `${path} is not a SQLite database, or it is encrypted; restore it from a backup or decrypt it first`,
    );
  }
}

/**
 * Locks out writers during the copy. Returns a function that releases the lock.
 *
 * A database with an interrupted write cannot be read without completing the write. It needs no lock, because no server
 * is running.
 */
async function lockForReading(path: string): Promise<() => void> {
  // Reading in WAL mode creates files next to the database; there, only the modification times reveal a write.
  const [writeVersion] = (await readHeader(path, 19)).subarray(18);
  if (writeVersion === 2) return () => {};
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    database.exec("begin");
    database.prepare("select count(*) from sqlite_schema").get();
  } catch (error) {
    database.close();
    if (sqliteCode(error) === SQLITE_BUSY) throw lockedError(path);
    return () => {};
  }
  // Readable although there is a journal: a writer is active, or it crashed before it wrote to the database.
  if ((await hasJournal(path)) && isLocked(path)) {
    database.close();
    throw lockedError(path);
  }
  return () => database.close();
}

async function hasJournal(path: string): Promise<boolean> {
  const header = await readHeader(`${path}-journal`, JOURNAL_HEADER_BYTES).catch(() => Buffer.alloc(0));
  return header.some((byte) => byte !== 0);
}

/** Whether another process holds the writer's lock. Writes nothing. */
function isLocked(path: string): boolean {
  const database = new DatabaseSync(path);
  try {
    database.exec("begin immediate; rollback");
    return false;
  } catch (error) {
    return sqliteCode(error) === SQLITE_BUSY;
  } finally {
    database.close();
  }
}

async function readHeader(path: string, bytes: number): Promise<Buffer> {
  await using file = await open(path, "r");
  const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
  return buffer.subarray(0, bytesRead);
}

function lockedError(path: string): StartupError {
  return new StartupError(
    `${path} is locked; stop the old server, or any other program that writes to it, and run the command again`,
  );
}

function sqliteCode(error: unknown): number {
  return error instanceof Error && "errcode" in error ? Number(error.errcode) & 0xff : 0;
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

function rethrowUnlessAbsent(error: unknown): void {
  if (!isAbsent(error)) throw error;
}

function unreadableError(path: string, error: unknown): StartupError {
  return new StartupError(`cannot read ${path}: ${messageOf(error)}`, { cause: error });
}
