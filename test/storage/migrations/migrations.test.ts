import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Database } from "../../../src/storage/database/database.ts";
import { migrate, pending } from "../../../src/storage/migrations/migrations.ts";
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
    expect((await pending(database, { directory })).migrations.map((migration) => migration.id)).toEqual([
      1, 2, 3,
    ]);
    expect(await run()).toEqual({
      migrations: ["000001_create_users", "000002_add_names", "000003_index_names"],
      domains: [],
    });
    expect(await run()).toEqual({ migrations: [], domains: [] });
    expect(await pending(database, { directory })).toEqual({ migrations: [], domains: [] });
    expect(await recorded()).toEqual(["000001_create_users", "000002_add_names", "000003_index_names"]);
    expect(await database.query({ text: "select id, name from users" })).toEqual([{ id: 1, name: null }]);
  });

  it("that come later are added", async () => {
    await write(users);
    await run();
    await write(names);
    expect((await pending(database, { directory })).migrations.map(({ name }) => name)).toEqual([
      "000002_add_names",
    ]);
    expect(await run()).toEqual({ migrations: ["000002_add_names"], domains: [] });
  });

  it("leave nothing of a file that fails, and tell which", async () => {
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
    await expect(pending(database, { directory })).rejects.toMatchObject(refusal);
  });

  it("take a file with other line ends for the same", async () => {
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
      message: expect.stringContaining("newer than this program: it has migration 000002_add_names"),
    });
  });

  it.each([
    ["a wrong name", { "1_users.sql": "select 1" }, "1_users.sql is no name for a migration"],
    ["a number used twice", { ...users, "000001_again.sql": "select 1" }, "two migrations have the number 1"],
  ])("refuse %s", async (_, files, message) => {
    await write(files);
    await expect(run()).rejects.toMatchObject({
      name: "StartupError",
      message: expect.stringContaining(message),
    });
  });

  it("say where they were looked for if they are not there", async () => {
    await rm(directory, { recursive: true, force: true });
    await expect(run()).rejects.toMatchObject({
      name: "StartupError",
      message: `the migrations in ${directory} cannot be read: install the program anew, with its directory sql`,
    });
  });

  it("outlast the statement time-out of the service", async () => {
    await write({ "000001_sleep.sql": "select pg_sleep(0.3);\n" });
    const impatient = await engine.open({ statementTimeoutMs: 100 });
    try {
      await migrate(impatient, { directory, logger: silentLogger });
    } finally {
      await impatient.close();
    }
  });

  // The embedded engine has one process on a directory.
  if (engine.engine === "postgres") {
    it("of ten processes at once are applied once each", async () => {
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
