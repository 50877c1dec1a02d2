import { constants } from "node:fs";
import { copyFile, open, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StartupError } from "../../memory/model/errors.ts";

export const DATABASE_FILE = "memory.db";

const SQLITE_HEADER = "SQLite format 3\0";
/** Of a journal's header, those that are zero once it is done with. */
const JOURNAL_HEADER_BYTES = 28;
const SQLITE_BUSY = 5;
/** Of the files beside a database, those that are a part of it. */
const BESIDE = ["-journal", "-wal"];

/**
 * Copies the old database with what a crash has left beside it into `scratch`, where SQLite may finish or roll back
 * what was interrupted; the original is only read. Returns the path of the copy.
 *
 * @throws StartupError if there is none, it is no SQLite database, or a running server is writing to it.
 */
export async function copyDatabase(directory: string, scratch: string): Promise<string> {
  const named = join(directory, DATABASE_FILE);
  await assertSqlite(directory, named);
  // What a crash has left is beside the file itself, not beside a link to it.
  const original = await realpath(named);
  const copy = join(scratch, DATABASE_FILE);
  // The lock goes with the first file descriptor that is closed, which is that of the copy: just late enough.
  const unlock = await lockForReading(original);
  try {
    const before = await changeTimes(original);
    await copyFile(original, copy, constants.COPYFILE_FICLONE);
    for (const suffix of BESIDE) {
      await copyFile(`${original}${suffix}`, `${copy}${suffix}`).catch(unlessAbsent);
    }
    if ((await changeTimes(original)) !== before) throw beingWritten(original);
  } catch (error) {
    throw error instanceof StartupError ? error : unreadable(original, error);
  } finally {
    unlock();
  }
  return copy;
}

/** When the database and what is beside it were last written, so that files of two moments are not taken for one. */
async function changeTimes(original: string): Promise<string> {
  const times = ["", ...BESIDE].map(async (suffix) => {
    const found = await stat(`${original}${suffix}`, { bigint: true }).catch(unlessAbsent);
    return found?.mtimeNs;
  });
  return (await Promise.all(times)).join();
}

async function assertSqlite(directory: string, path: string): Promise<void> {
  const found = await stat(directory).catch((error: unknown) => {
    if (isAbsent(error)) throw new StartupError(`there is no directory ${directory}`);
    throw unreadable(directory, error);
  });
  if (!found.isDirectory()) {
    throw new StartupError(`${directory} is no directory: give the one that has ${DATABASE_FILE} in it`);
  }
  const database = await stat(path).catch((error: unknown) => {
    if (isAbsent(error)) {
      throw new StartupError(
        `there is no ${DATABASE_FILE} in ${directory}: give the directory that MCP_DATA_DIR named, or where the old server was started`,
      );
    }
    throw unreadable(path, error);
  });
  // A pipe would keep its reader waiting for ever.
  if (!database.isFile()) throw new StartupError(`${path} is no file: restore it from a backup`);
  const header = await readHeader(path, SQLITE_HEADER.length).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  if (header.length === 0) throw new StartupError(`${path} is empty: nothing was ever stored in it`);
  if (header.toString("latin1") !== SQLITE_HEADER) {
    throw new StartupError(
      `${path} is no SQLite database, or an encrypted one: restore it from a backup, or decrypt it first`,
    );
  }
}

/**
 * Keeps writers out while the copy is made. Returns the way to let them in again. What a crash has left half done
 * cannot be read without finishing it: there, no lock is needed, since nobody runs.
 */
async function lockForReading(path: string): Promise<() => void> {
  // Readers of a write-ahead log make files beside it: there, only a write while it is copied is noticed.
  const [writeVersion] = (await readHeader(path, 19)).subarray(18);
  if (writeVersion === 2) return () => {};
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    database.exec("begin");
    database.prepare("select count(*) from sqlite_schema").get();
  } catch (error) {
    database.close();
    if (sqliteCode(error) === SQLITE_BUSY) throw beingWritten(path);
    return () => {};
  }
  // It could be read although there is a journal: somebody is at work on it, or ended before it wrote anything.
  if ((await hasJournal(path)) && isLocked(path)) {
    database.close();
    throw beingWritten(path);
  }
  return () => database.close();
}

async function hasJournal(path: string): Promise<boolean> {
  const header = await readHeader(`${path}-journal`, JOURNAL_HEADER_BYTES).catch(() => Buffer.alloc(0));
  return header.some((byte) => byte !== 0);
}

/** Tries to take the lock of a writer, and writes nothing. */
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

function beingWritten(path: string): StartupError {
  return new StartupError(
    `${path} is locked: stop the old server (or whatever else writes to it) and try again`,
  );
}

function sqliteCode(error: unknown): number {
  return error instanceof Error && "errcode" in error ? Number(error.errcode) & 0xff : 0;
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

function unlessAbsent(error: unknown): void {
  if (!isAbsent(error)) throw error;
}

function unreadable(path: string, error: unknown): StartupError {
  return new StartupError(`cannot read ${path}: ${error instanceof Error ? error.message : error}`, {
    cause: error,
  });
}
