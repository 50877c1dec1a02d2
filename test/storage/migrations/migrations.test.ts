import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { prepareCatalogue } from "../../../src/legacy/adoption/adopt-tables.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { findPendingWork, migrate } from "../../../src/storage/migrations/migrations.ts";
import { databaseEngines, empty, openSibling } from "../../support/postgres/databases.ts";
import { silentLogger } from "../../support/silent-logger.ts";

const users = { "000001_create_users.sql": "create table users (id int);\ninsert into users values (1);\n" };
const names = { "000002_add_names.sql": "alter table users add column name text;\n" };
const index = {
  "000003_index_names.sql": "-- no transaction\ncreate index concurrently users_name on users (name);\n",
};

describe.each(databaseEngines(empty))("migrations on $name", (engine) => {
  let directory: string;
  let database: Database;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "memory-service-migrations-"));
    database = await engine.open();
  });
  afterEach(async () => {
    await database.close();
    await rm(directory, { recursive: true, force: true });
  });

  const write = async (files: Record<string, string>) => {
    for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  };
  const run = () => migrate(database, { directory, logger: silentLogger });
  const recorded = async () =>
    (await database.query({ text: "select name from memory_migrations order by id" })).map((row) => row.name);

  it("are applied in order, once", async () => {
    await write({ ...users, ...names, ...index });
    expect(
      (await findPendingWork(database, { directory })).migrations.map((migration) => migration.id),
    ).toEqual([1, 2, 3]);
    expect(await run()).toEqual({
      migrations: ["000001_create_users", "000002_add_names", "000003_index_names"],
      domains: [],
    });
    expect(await run()).toEqual({ migrations: [], domains: [] });
    expect(await findPendingWork(database, { directory })).toEqual({ migrations: [], domains: [] });
    expect(await recorded()).toEqual(["000001_create_users", "000002_add_names", "000003_index_names"]);
    expect(await database.query({ text: "select id, name from users" })).toEqual([{ id: 1, name: null }]);
  });

  it("are applied if they are added later", async () => {
    await write(users);
    await run();
    await write(names);
    expect((await findPendingWork(database, { directory })).migrations.map(({ name }) => name)).toEqual([
      "000002_add_names",
    ]);
    expect(await run()).toEqual({ migrations: ["000002_add_names"], domains: [] });
  });

  it("leave no trace of a file that fails, and name it in the error", async () => {
    await write({ ...users, "000002_fail.sql": "create table leftover (id int);\nselect 1 / 0;\n" });
    await expect(run()).rejects.toMatchObject({
      name: "StartupError",
      message: "migration 000002_fail failed: division by zero",
    });
    expect(await recorded()).toEqual(["000001_create_users"]);
    expect(await database.query({ text: "select to_regclass('leftover') as found" })).toEqual([
      { found: null },
    ]);
    await write({ "000002_fail.sql": "create table leftover (id int);\n" });
    expect(await run()).toEqual({ migrations: ["000002_fail"], domains: [] });
  });

  it("refuse a file that changed after it was applied", async () => {
    await write(users);
    await run();
    await write({ "000001_create_users.sql": "create table users (id bigint);\n" });
    const refusal = { name: "StartupError", message: expect.stringContaining("000001_create_users") };
    await expect(run()).rejects.toMatchObject(refusal);
    await expect(findPendingWork(database, { directory })).rejects.toMatchObject(refusal);
  });

  it("accept a file whose line endings have changed", async () => {
    await write(users);
    await run();
    await write({ "000001_create_users.sql": users["000001_create_users.sql"].replaceAll("\n", "\r\n") });
    expect(await run()).toEqual({ migrations: [], domains: [] });
  });

  it("refuse a database that is newer than the program", async () => {
    await write({ ...users, ...names });
    await run();
    await rm(join(directory, "000002_add_names.sql"));
    await expect(run()).rejects.toMatchObject({
      name: "StartupError",
      message: expect.stringContaining(
        "newer than this program, which does not know migration 000002_add_names",
      ),
    });
  });

  it("refuse a database from before the first release, and adopting tables in it changes nothing", async () => {
    await write(users);
    await run();
    await database.execute(`
      update memory_migrations set checksum = '05ca2e72f97fb273ca10242cb68b9ae82681da673abda64c945adcf778a3d3ab';
      create function create_domain_memories_table(domain text) returns void language sql as 'select null::void';
    `);
    const refusal = {
      name: "StartupError",
      message:
        "the database was created before the first release and cannot be upgraded: with the earlier version, " +
        'run "memory-service export --domain NAME > NAME.jsonl" for each domain, then start this version on a new ' +
        'database and run "memory-service import NAME.jsonl" for each file',
    };
    await expect(run()).rejects.toMatchObject(refusal);
    await expect(findPendingWork(database, { directory })).rejects.toMatchObject(refusal);
    const { signal } = new AbortController();
    await expect(prepareCatalogue(database, silentLogger, signal)).rejects.toMatchObject(refusal);
    expect(await database.query({ text: "select create_domain_memories_table('work')" })).toHaveLength(1);
  });

  it.each([
    ["an invalid file name", { "1_users.sql": "select 1" }, "the file name 1_users.sql is invalid"],
    ["a duplicate number", { ...users, "000001_again.sql": "select 1" }, "two migrations have the number 1"],
  ])("refuse %s", async (_, files, message) => {
    await write(files);
    await expect(run()).rejects.toMatchObject({
      name: "StartupError",
      message: expect.stringContaining(message),
    });
  });

  it("name their directory in the error if it does not exist", async () => {
    await rm(directory, { recursive: true, force: true });
    await expect(run()).rejects.toMatchObject({
      name: "StartupError",
      message: `cannot read the migrations in ${directory}: reinstall the program with its directory sql`,
    });
  });

  it("may run longer than the statement timeout of the service", async () => {
    await write({ "000001_sleep.sql": "select pg_sleep(0.3);\n" });
    const impatient = await engine.open({ statementTimeoutMs: 100 });
    try {
      await migrate(impatient, { directory, logger: silentLogger });
    } finally {
      await impatient.close();
    }
  });

  // The embedded engine allows only one process per directory.
  if (engine.engine === "postgres") {
    it("are applied once each by ten concurrent processes", async () => {
      await write({
        "000001_extension.sql": "create extension if not exists vector;\n",
        ...names,
        "000002_add_names.sql": "create table users (id int, name text);\n",
        ...index,
      });
      const processes = await Promise.all(Array.from({ length: 10 }, () => openSibling(database)));
      try {
        const results = await Promise.all(
          processes.map((process) => migrate(process, { directory, logger: silentLogger })),
        );
        expect(results.flatMap((result) => result.migrations).sort()).toEqual([
          "000001_extension",
          "000002_add_names",
          "000003_index_names",
        ]);
        expect(await recorded()).toHaveLength(3);
      } finally {
        await Promise.all(processes.map((process) => process.close()));
      }
    });
  }
});
