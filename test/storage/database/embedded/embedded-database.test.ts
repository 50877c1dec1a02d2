import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { chmod, mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Worker } from "node:worker_threads";
import { pino } from "pino";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Statement } from "../../../../src/storage/database/database.ts";
import {
  EMBEDDED_POSTGRES_MAJOR,
  lockDirectory,
} from "../../../../src/storage/database/embedded/directory-lock.ts";
import { RESERVED_BYTES } from "../../../../src/storage/database/embedded/disk-space.ts";
import {
  type EmbeddedDatabase,
  openEmbeddedDatabase,
} from "../../../../src/storage/database/embedded/embedded-database.ts";
import { createDataDirectory } from "../../../support/postgres/data-directory.ts";
import { silentLogger } from "../../../support/silent-logger.ts";

const source = new URL("../../../../src/storage/database/embedded/", import.meta.url);

/** Runs a script in a process of its own; resolves when it has printed a line. */
async function runUntilLine(directory: string, script: string) {
  await mkdir(directory, { recursive: true });
  const file = join(directory, "script.mjs");
  await writeFile(file, script);
  const child = spawn(process.execPath, [file], { stdio: ["pipe", "pipe", "pipe"] });
  const closed = once(child, "close");
  let stderr = "";
  child.stderr.on("data", (data) => {
    stderr += data;
  });
  const lines = createInterface({ input: child.stdout });
  const [line] = await Promise.race([once(lines, "line"), closed.then(() => [stderr])]);
  return { child, lines, closed, line: String(line), stderr: () => stderr };
}

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777;
}

/** Stops the engine before it can answer to what has just been sent. */
function sendThen<T>(stop: () => void, sent: Promise<T>): Promise<T> {
  stop();
  return sent;
}

describe("the embedded database", () => {
  let directory: string;
  let scripts: string;
  let dump: ArrayBuffer;
  const open = () => openEmbeddedDatabase({ directory, logger: silentLogger });
  // From a dump: making a cluster takes seconds.
  const openInMemory = (logger = silentLogger) => openEmbeddedDatabase({ loadDataDir: dump, logger });

  beforeAll(async () => {
    const database = await openEmbeddedDatabase({ logger: silentLogger });
    await database.execute("create table kept (id int); insert into kept values (7)");
    dump = await database.dump();
    await database.close();
  });

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "memory-service-data-"));
    scripts = `${directory}-scripts`;
  });
  afterEach(async () => {
    for (const path of [directory, scripts]) await rm(path, { recursive: true, force: true });
  });

  it("reads and refuses changes while its disk is nearly full, and continues when there is space", async () => {
    let free = 1e9;
    const told = new EventEmitter();
    const logger = pino({ level: "info" }, { write: () => told.emit("line") });
    const database = await openEmbeddedDatabase({ loadDataDir: dump, freeBytes: () => free, logger });
    const insert = () => database.query({ text: "insert into kept values (8) returning id" });
    try {
      expect(await insert()).toEqual([{ id: 8 }]);
      free = RESERVED_BYTES - 1;
      await once(told, "line");
      await expect(insert()).rejects.toMatchObject({ reason: "STORAGE_FULL" });
      await expect(
        database.transaction((transaction) => transaction.query({ text: "delete from kept" })),
      ).rejects.toMatchObject({ reason: "STORAGE_FULL" });
      await database.session((session) => session.execute("set statement_timeout = 0"));
      expect(await database.ping(1_000)).toEqual({ writable: false });
      await expect(insert(), "after a session").rejects.toMatchObject({ reason: "STORAGE_FULL" });
      expect(await database.query({ text: "select id from kept order by id" })).toEqual([
        { id: 7 },
        { id: 8 },
      ]);
      free = 3 * RESERVED_BYTES;
      await once(told, "line");
      expect(await insert()).toEqual([{ id: 8 }]);
      expect(await database.ping(1_000)).toEqual({ writable: true });
    } finally {
      await database.close();
    }
  });

  it("keeps its data in the directory, which it makes", async () => {
    directory = join(directory, "new", "data");
    const first = await open();
    await first.execute("create table t (id int); insert into t values (1)");
    await first.close();
    expect(await modeOf(join(directory, "postgres"))).toBe(0o700);
    const second = await open();
    expect(await second.query({ text: "select id from t" })).toEqual([{ id: 1 }]);
    expect(
      await second.query({ text: "select current_setting('server_version_num')::int / 10000 as major" }),
    ).toEqual([{ major: EMBEDDED_POSTGRES_MAJOR }]);
    await second.close();
  });

  it("refuses other processes for data that an earlier version has left open", async () => {
    await using data = await createDataDirectory();
    const cluster = join(data.directory, "postgres");
    for (const path of [data.directory, cluster]) await chmod(path, 0o755);
    await (await openEmbeddedDatabase({ directory: data.directory, logger: silentLogger })).close();
    expect(await modeOf(cluster)).toBe(0o700);
  });

  it("brings pgvector and pg_textsearch", async () => {
    const database = await openInMemory();
    await database.execute("create extension vector; create extension pg_textsearch");
    await database.close();
  });

  it("refuses a directory that is open already, until it is closed", async () => {
    await using data = await createDataDirectory();
    const openIt = () => openEmbeddedDatabase({ directory: data.directory, logger: silentLogger });
    const first = await openIt();
    await expect(openIt()).rejects.toMatchObject({
      name: "StartupError",
      message: expect.stringContaining(`the data directory ${data.directory} is in use by another process`),
    });
    await first.close();
    await (await openIt()).close();
  });

  it("refuses a directory of another process, and has it again with every row after that was killed", async () => {
    const { child, lines, closed, line } = await runUntilLine(
      scripts,
      `
      const { openEmbeddedDatabase } = await import(${JSON.stringify(new URL("embedded-database.ts", source))});
      const logger = { debug() {}, info() {}, warn() {}, error() {} };
      const database = await openEmbeddedDatabase({ directory: ${JSON.stringify(directory)}, logger });
      await database.execute("create table t (id int)");
      for (let id = 1; ; id++) {
        await database.query({ name: "insert", text: "insert into t values ($1)" }, [id]);
        console.log(id);
      }
    `,
    );
    expect(line).toBe("1");
    await expect(open()).rejects.toThrow("is in use by another process");
    let acknowledged = 1;
    lines.on("line", (text) => {
      acknowledged = Number(text);
      // Some lines may have come before anybody listened.
      if (acknowledged >= 200) child.kill("SIGKILL");
    });
    await closed;
    const database = await open();
    const [row] = await database.query<{ n: number }>({ text: "select count(*)::int as n from t" });
    expect(row?.n).toBeGreaterThanOrEqual(acknowledged);
    await database.close();
  });

  it("starts again if a process was killed while it created the directory", async () => {
    await mkdir(join(directory, "postgres.unfinished"), { recursive: true });
    await writeFile(join(directory, "postgres.unfinished", "PG_VERSION"), "18\n");
    const database = await open();
    expect(await database.query({ text: "select 1 as n" })).toEqual([{ n: 1 }]);
    await database.close();
  });

  it.each([
    [
      "made by another PostgreSQL",
      "16\n",
      "was created by PostgreSQL 16, but this program embeds PostgreSQL 18",
    ],
    ["that is none", undefined, "is not a data directory of the embedded database"],
  ])("refuses a data directory %s", async (_, version, message) => {
    await mkdir(join(directory, "postgres"));
    if (version !== undefined) await writeFile(join(directory, "postgres", "PG_VERSION"), version);
    await expect(open()).rejects.toMatchObject({
      name: "StartupError",
      message: expect.stringContaining(message),
    });
    // The lock was given back.
    lockDirectory(directory).release();
  });

  it("refuses a directory that cannot be written", async () => {
    const file = join(directory, "file");
    await writeFile(file, "");
    directory = join(file, "data");
    await expect(open()).rejects.toMatchObject({
      name: "StartupError",
      message: expect.stringContaining(`the data directory ${directory} cannot be written`),
    });
    directory = file;
  });

  it("prints nothing while it opens", async () => {
    const { closed, line, stderr } = await runUntilLine(
      scripts,
      `
      const { lockDirectory } = await import(${JSON.stringify(new URL("directory-lock.ts", source))});
      const { openEmbeddedDatabase } = await import(${JSON.stringify(new URL("embedded-database.ts", source))});
      const logger = { debug() {}, info() {}, warn() {}, error() {} };
      const database = await openEmbeddedDatabase({ directory: ${JSON.stringify(directory)}, logger });
      await database.close();
      console.log("closed");
    `,
    );
    await closed;
    expect(line).toBe("closed");
    expect(stderr()).toBe("");
  });

  it("starts from a dump", async () => {
    const database = await openInMemory();
    expect(await database.query({ text: "select id from kept" })).toEqual([{ id: 7 }]);
    await database.close();
  });

  it("runs nothing between the statements of a transaction", async () => {
    const database = await openInMemory();
    await database.execute("create table t (id int)");
    const counted = database.transaction(async (transaction) => {
      await transaction.query({ text: "insert into t values (1)" });
      await new Promise((resolve) => setImmediate(resolve));
      return await transaction.query({ text: "select count(*)::int as n from t" });
    });
    const outside = database.query({ text: "insert into t values (2)" });
    expect(await counted).toEqual([{ n: 1 }]);
    await outside;
    await database.close();
  });

  it("leaves the main thread free while a statement runs", async () => {
    const database = await openInMemory();
    let turns = 0;
    const timer = setInterval(() => turns++, 5);
    const start = performance.now();
    await database.query({ text: "select count(*) from generate_series(1, 3000000)" });
    const elapsedMs = performance.now() - start;
    clearInterval(timer);
    expect(turns).toBeGreaterThan(elapsedMs / 50);
    await database.close();
  });

  it("answers a ping while a statement takes longer than the ping may wait", async () => {
    const database = await openInMemory();
    let ended = false;
    const slow = database.query({ text: "select count(*) from generate_series(1, 5000000)" }).finally(() => {
      ended = true;
    });
    expect(await database.ping(20)).toEqual({ writable: true });
    expect(ended).toBe(false);
    await slow;
    await database.close();
  });

  it("answers an endless recursion with an error, and continues", async () => {
    const database = await openInMemory();
    await database.execute(
      "create function endless(n int) returns int language plpgsql as $$ begin return endless(n + 1); end $$",
    );
    await expect(database.query({ text: "select endless(1)" })).rejects.toMatchObject({ sqlstate: "54001" });
    expect(await database.query({ text: "select 1 as n" })).toEqual([{ n: 1 }]);
    await database.close();
  });

  const endless: Statement = {
    writes: true,
    text: "insert into kept select n from generate_series(1, 100000000) n",
  };
  const interrupted: ReadonlyArray<
    readonly [
      what: string,
      reason: string,
      use: (database: EmbeddedDatabase, stop: () => void) => Promise<unknown>,
    ]
  > = [
    ["a change", "OUTCOME_UNKNOWN", (database, stop) => sendThen(stop, database.query(endless))],
    [
      "a script of changes",
      "OUTCOME_UNKNOWN",
      (database, stop) => sendThen(stop, database.execute(endless.text)),
    ],
    [
      "a commit",
      "OUTCOME_UNKNOWN",
      (database, stop) =>
        database.transaction(async (transaction) => {
          await transaction.query({ text: "insert into kept values (8)" });
          stop();
        }),
    ],
    [
      "a change before its commit",
      "DATABASE_UNAVAILABLE",
      (database, stop) => database.transaction((transaction) => sendThen(stop, transaction.query(endless))),
    ],
    ["a dump", "DATABASE_UNAVAILABLE", (database, stop) => sendThen(stop, database.dump())],
  ];
  it.each(interrupted)("answers to %s in which its engine stops with %s", async (_, reason, use) => {
    const started = once(process, "worker");
    const database = await openInMemory();
    const [worker] = (await started) as [Worker];
    await expect(use(database, () => void worker.terminate())).rejects.toMatchObject({ reason });
    await database.close();
  });

  it("answers DATABASE_UNAVAILABLE to everybody when its engine has stopped, and logs it once", async () => {
    const errors: unknown[] = [];
    const logger = { ...silentLogger, error: (...args: unknown[]) => void errors.push(args) };
    const started = once(process, "worker");
    const database = await openInMemory(logger);
    const [worker] = (await started) as [Worker];
    const unavailable = { name: "ServiceError", reason: "DATABASE_UNAVAILABLE" };
    const results = Promise.allSettled([
      database.query({ text: "select count(*) from generate_series(1, 100000000)" }),
      database.query({ text: "select 1" }),
      database.transaction(async () => 1),
      database.query({ text: "insert into kept values (8)" }),
    ]);
    await worker.terminate();
    for (const result of await results)
      expect(result).toMatchObject({ status: "rejected", reason: unavailable });
    await expect(database.query({ text: "select 1" })).rejects.toMatchObject(unavailable);
    await expect(database.ping(1_000)).rejects.toMatchObject(unavailable);
    expect(errors).toHaveLength(1);
    await database.close();
  });
});
