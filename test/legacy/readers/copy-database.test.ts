import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { copyDatabase } from "../../../src/legacy/readers/copy-database.ts";
import { openLegacyDatabase } from "../../../src/legacy/readers/read-database.ts";
import { decodeText } from "../../../src/legacy/readers/stored-value.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { copyFixture } from "../fixtures.ts";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let sources = 0;
const children: ChildProcess[] = [];

beforeAll(async () => {
  directory = await temporaryDirectory();
});

afterEach(async () => {
  for (const child of children.splice(0)) await kill(child);
});

afterAll(() => directory?.remove());

async function source(): Promise<string> {
  const parent = join(directory.path, `source${sources++}`);
  await mkdir(parent);
  return await copyFixture("no-vectors", parent);
}

async function open(path: string) {
  const scratch = join(directory.path, `scratch${sources++}`);
  await mkdir(scratch);
  return openLegacyDatabase(await copyDatabase(path, scratch), join(path, "memory.db"));
}

async function contentsOf(path: string): Promise<string[]> {
  const database = await open(path);
  try {
    return [...database.rows("memories")].map(({ content }) => decodeText(content ?? null).text);
  } finally {
    database.close();
  }
}

/** Returns a hash of each file in a directory. */
async function fingerprint(path: string): Promise<Record<string, string>> {
  const names = (await readdir(path)).sort();
  const hash = async (name: string) =>
    createHash("sha256")
      .update(await readFile(join(path, name)))
      .digest("hex");
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await hash(name)])));
}

/** Starts a process that opens the database, runs these statements and then idles. */
async function startWriter(path: string, statements: string): Promise<ChildProcess> {
  const script = `
    const { DatabaseSync } = require("node:sqlite");
    const database = new DatabaseSync(${JSON.stringify(join(path, "memory.db"))});
    database.exec(${JSON.stringify(statements)});
    console.log("ready");
    setInterval(() => {}, 60_000);`;
  const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  await once(child.stdout ?? child, "data");
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

const SPILLING = `pragma cache_size = 1; begin;
  update memories set content = 'never committed ' || hex(randomblob(4000));
  insert into memories select id || 'x', content, metadata, created_at, updated_at from memories;`;

test("rolls back an interrupted write, in the copy only", async () => {
  const path = await source();
  const before = await contentsOf(path);
  await kill(await startWriter(path, SPILLING));
  const crashed = await fingerprint(path);
  expect(Object.keys(crashed)).toContain("memory.db-journal");
  expect((await readFile(join(path, "memory.db"))).includes("never committed")).toBe(true);

  expect(await contentsOf(path)).toEqual(before);
  expect(await fingerprint(path)).toEqual(crashed);
});

test("finds the journal next to the target of a symbolic link", async () => {
  const path = await source();
  const before = await contentsOf(path);
  await kill(await startWriter(path, SPILLING));
  const linked = join(directory.path, `source${sources++}`);
  await mkdir(linked);
  await symlink(join(path, "memory.db"), join(linked, "memory.db"));
  expect(await contentsOf(linked)).toEqual(before);
});

test("reads tables without rowid, and skips virtual tables of a missing module", async () => {
  const path = await source();
  const before = await contentsOf(path);
  const database = new DatabaseSync(join(path, "memory.db"));
  database.exec(`create table settings (key text primary key, value) without rowid;
    insert into settings values ('theme', 'dark');
    create table copied (id TEXT PRIMARY KEY, content TEXT NOT NULL, metadata TEXT NOT NULL, created_at REAL NOT NULL,
      updated_at REAL NOT NULL) without rowid;
    insert into copied select * from memories;
    drop table memories;
    alter table copied rename to memories;
    create virtual table words using fts5(content);
    insert into words select content from memories`);
  database.close();
  const bytes = await readFile(join(path, "memory.db"), "latin1");
  await writeFile(join(path, "memory.db"), bytes.replace("using fts5", "using abc5"), "latin1");
  expect(await contentsOf(path)).toEqual(before);
  const opened = await open(path);
  expect(opened.otherTables).toContain("settings");
  expect(opened.otherTables).not.toContain("words");
  for (const table of opened.otherTables) expect([...opened.rows(table)]).toHaveLength(opened.count(table));
  opened.close();
});

test("reads data that is only in the write-ahead log", async () => {
  const path = await source();
  const before = await contentsOf(path);
  await kill(
    await startWriter(
      path,
      "pragma journal_mode = wal; update memories set content = content || ' (changed)'",
    ),
  );
  const crashed = await fingerprint(path);
  expect(Object.keys(crashed)).toContain("memory.db-wal");
  expect(await contentsOf(path)).toEqual(before.map((content) => `${content} (changed)`));
  expect(await fingerprint(path)).toEqual(crashed);
});

test("ignores the journal of a finished transaction", async () => {
  const path = await source();
  const before = await contentsOf(path);
  // In journal_mode persist, SQLite fills the header with zeros.
  await writeFile(
    join(path, "memory.db-journal"),
    Buffer.concat([Buffer.alloc(512), Buffer.from("old pages")]),
  );
  expect(await contentsOf(path)).toEqual(before);
});

describe("rejects a database that a running server writes to", () => {
  test.each([
    ["with an exclusive lock", "begin exclusive"],
    ["in an open transaction", "begin; update memories set updated_at = updated_at + 1"],
    ["in a long transaction", SPILLING],
  ])("%s", async (_, statements) => {
    const path = await source();
    await startWriter(path, statements);
    const before = await fingerprint(path);
    await expect(contentsOf(path)).rejects.toThrow(
      `${path}/memory.db is locked; stop the old server, or any other program that writes to it, and run the command again`,
    );
    expect(await fingerprint(path)).toEqual(before);
  });
});

test("rejects a write-ahead log that grows during the copy", async () => {
  const path = await source();
  const database = new DatabaseSync(join(path, "memory.db"));
  database.exec("pragma journal_mode = wal");
  let writing = true;
  const writes = (async () => {
    while (writing) {
      database.exec("update memories set updated_at = updated_at + 1");
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  try {
    await expect(contentsOf(path)).rejects.toThrow(`${path}/memory.db is locked; stop the old server`);
  } finally {
    writing = false;
    await writes;
    database.close();
  }
});

test("ignores the journal of a write that crashed before it reached the database", async () => {
  const path = await source();
  const before = await contentsOf(path);
  await kill(await startWriter(path, "begin; update memories set updated_at = updated_at + 1"));
  const crashed = await fingerprint(path);
  expect(Object.keys(crashed)).toContain("memory.db-journal");
  expect(await contentsOf(path)).toEqual(before);
  expect(await fingerprint(path)).toEqual(crashed);
});

test("reads a database that an idle server has open", async () => {
  const path = await source();
  const before = await contentsOf(path);
  await startWriter(path, "select count(*) from memories");
  expect(await contentsOf(path)).toEqual(before);
});

test("reads a read-only directory", async () => {
  const path = await source();
  const before = await contentsOf(path);
  await chmod(join(path, "memory.db"), 0o400);
  await chmod(path, 0o500);
  try {
    expect(await contentsOf(path)).toEqual(before);
  } finally {
    await chmod(path, 0o700);
  }
});

describe("fails with one sentence", () => {
  const rewrite = (statements: string) => async (path: string) => {
    const database = new DatabaseSync(join(path, "memory.db"));
    database.exec(statements);
    database.close();
  };
  test.each<[string, (path: string) => Promise<unknown>, RegExp]>([
    [
      "an empty file",
      (path) => truncate(join(path, "memory.db")),
      /memory\.db is empty; the old server never stored anything/,
    ],
    [
      "a file that is not a SQLite database",
      (path) => writeFile(join(path, "memory.db"), "hello ".repeat(1_000)),
      /memory\.db is not a SQLite database, or it is encrypted; restore/,
    ],
    [
      "a truncated file",
      (path) => truncate(join(path, "memory.db"), 5_000),
      /memory\.db is damaged \(.+\); restore it/,
    ],
    [
      "a damaged page",
      async (path) => {
        const bytes = await readFile(join(path, "memory.db"));
        bytes.fill(0xff, 4_096, 6_000);
        await writeFile(join(path, "memory.db"), bytes);
      },
      /memory\.db is damaged \([^*]+\); restore it/,
    ],
    [
      "a database without the table",
      rewrite("drop table memories"),
      /memory\.db has no table memories; it is not/,
    ],
    [
      "a table with other columns",
      rewrite(
        "alter table memories rename column content to body; alter table memories drop column created_at",
      ),
      /memory\.db has no column content, created_at; it is not a database of the old server/,
    ],
  ])("%s", async (_, damage, sentence) => {
    const path = await source();
    await damage(path);
    const before = await fingerprint(path);
    await expect(contentsOf(path)).rejects.toThrow(sentence);
    expect(await fingerprint(path)).toEqual(before);
  });

  test("a pipe, without blocking", async () => {
    const path = await source();
    await rm(join(path, "memory.db"));
    await promisify(execFile)("mkfifo", [join(path, "memory.db")]);
    await expect(contentsOf(path)).rejects.toThrow("memory.db is not a file; restore it from a backup");
  });

  test("a directory without a database, and one that does not exist", async () => {
    await expect(copyDatabase(directory.path, directory.path)).rejects.toThrow(
      `${directory.path} does not contain memory.db; pass the directory that MCP_DATA_DIR named`,
    );
    await expect(copyDatabase("/nowhere", directory.path)).rejects.toThrow(
      "the directory /nowhere does not exist",
    );
    const path = await source();
    await expect(copyDatabase(join(path, "memory.db"), directory.path)).rejects.toThrow(
      "memory.db is not a directory; pass the directory that contains memory.db",
    );
  });
});
