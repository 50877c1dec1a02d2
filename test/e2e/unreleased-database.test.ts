import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readConfig } from "../../src/app/config.ts";
import { openDatabase } from "../../src/app/open-database.ts";
import type { Report } from "../../src/cli/doctor/check.ts";
import type { Database } from "../../src/storage/database/database.ts";
import { serverEngines } from "../support/server/server-engines.ts";
import { runProgram } from "../support/server/server-process.ts";
import { silentLogger } from "../support/silent-logger.ts";

/** The parts of a development version's database that this version checks: its records and one domain. */
const unreleased = `
  create extension if not exists vector;
  create table memory_migrations (
    id integer primary key, name text not null, checksum text not null, applied_at timestamptz not null default now());
  insert into memory_migrations (id, name, checksum) values
    (1, '000001_create_catalogue', '05ca2e72f97fb273ca10242cb68b9ae82681da673abda64c945adcf778a3d3ab'),
    (2, '000002_create_functions', 'of that version');
  create table memory_domains (name text primary key, dimensions integer);
  insert into memory_domains values ('work', 3);
  create table work_memories (id varchar(50) primary key, content text not null, embedding vector(3));
  insert into work_memories values ('m', 'parking is free', '[1,0,0]');
  create function create_domain_memories_table(domain text) returns void language sql as 'select null::void';
`;

const problem = "the database was created before the first release and cannot be upgraded";
const remedy =
  'with the earlier version, run "memory-service export --domain NAME > NAME.jsonl" for each domain, ' +
  'then start this version on a new database and run "memory-service import NAME.jsonl" for each file';

async function withDatabase<T>(
  env: Readonly<Record<string, string>>,
  work: (database: Database) => Promise<T>,
): Promise<T> {
  const database = await openDatabase(readConfig(env), silentLogger);
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

/** Reads every relation, column, function and row of the public schema. */
async function readEverything(database: Database) {
  const tables = [];
  for (const text of [
    "select xmin::text, ctid::text, * from memory_migrations order by id",
    "select xmin::text, ctid::text, * from memory_domains",
    "select xmin::text, ctid::text, id, content, embedding::text from work_memories",
    `select c.xmin::text, c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
      where c.relnamespace = 'public'::regnamespace order by 2, 3`,
    "select xmin::text, oid::regprocedure::text as name from pg_proc where pronamespace = 'public'::regnamespace order by 2",
  ]) {
    tables.push(await database.query({ text }));
  }
  return tables;
}

describe.each(serverEngines())("a database from before the first release on $name", ({ create, name }) => {
  test("is refused by serve, migrate and doctor, which change nothing in it", {
    timeout: 120_000,
  }, async () => {
    await using data = await create({ empty: true });
    const directory = join(data.env.MEMORY_DATA_DIR ?? "", "data");
    const env = name === "embedded" ? { MEMORY_DATA_DIR: directory } : data.env;
    const before = await withDatabase(env, async (database) => {
      await database.execute(unreleased);
      return await readEverything(database);
    });

    for (const command of ["serve", "migrate"]) {
      const { code, stderr } = await runProgram([command], { env });
      expect([code, command]).toEqual([1, command]);
      expect(stderr).toContain(`${problem}: ${remedy}`);
    }
    const doctor = await runProgram(["doctor", "--json"], { env });
    expect(doctor.code).toBe(1);
    expect((JSON.parse(doctor.stdout) as Report).checks).toContainEqual(
      expect.objectContaining({ name: "migrations", status: "problem", detail: problem, remedy }),
    );

    expect(await withDatabase(env, readEverything)).toEqual(before);
  });
});
