import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { readConfig } from "../../../src/app/config.ts";
import { startApp } from "../../../src/app/start-app.ts";
import { checkMigrations } from "../../../src/cli/doctor/check-migrations.ts";
import { parseTextQuery } from "../../../src/memory/model/text-query.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import {
  createPsqlScript,
  describePendingWork,
  findPendingWork,
  type MigrateOptions,
  migrate,
  sqlDirectory,
} from "../../../src/storage/migrations/migrations.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { databaseEngines, urlOf } from "../../support/postgres/databases.ts";
import { silentLogger } from "../../support/silent-logger.ts";

/** The second name has the maximum length, because the upgrade derives longer names from it. */
const names = ["early", "m".repeat(40)] as const;
const [first, second] = names;

/** A later migration as this project would write one: it replaces functions and raises the revision. */
const laterMigration = `
alter function create_domain_tables(memory_domains) rename to create_first_domain_tables;
create function create_domain_tables(known memory_domains) returns void language plpgsql as $$
begin
  perform create_first_domain_tables(known);
  execute format('alter table %I add column if not exists note text not null default ''none''',
    known.name || '_memories');
end
$$;

alter function create_domain_indexes(text) rename to create_first_domain_indexes;
create function create_domain_indexes(domain text) returns void language plpgsql as $$
begin
  perform create_first_domain_indexes(domain);
  perform create_domain_index(domain, '_memories_note_idx', format('%I', domain || '_memories'), '(note)', 'notes');
end
$$;

create or replace function memory_tables_revision() returns integer
language sql immutable parallel safe as 'select 2';
`;

let later: string;
beforeAll(async () => {
  later = await mkdtemp(join(tmpdir(), "memory-service-migrations-"));
  await cp(fileURLToPath(sqlDirectory), later, { recursive: true });
  await writeFile(join(later, "000099_add_notes.sql"), laterMigration);
});
afterAll(() => rm(later, { recursive: true }));

/** Creates a database of the present revision with two domains that contain memories. */
const filled = async (database: Database) => {
  await migrate(database, { directory: sqlDirectory, logger: silentLogger });
  for (const name of names) {
    await database.execute(`
      select create_domain_memories_table('${name}', 3);
      insert into ${name}_memories (id, content, metadata, embedding, embedding_state, embedding_version)
        select 'm' || i, 'apples number ' || i, '{}', '[1,0,0]', 'ready', 1 from generate_series(1, 50) i;
      insert into ${name}_memories (id, content, metadata) values ('waits', 'a waiting pear', '{"source": "s"}');
      insert into ${name}_chunks (memory_id, chunk_index, start_offset, end_offset, embedding, embedding_version)
        values ('m1', 1, 0, 5, '[0,1,0]', 1);
    `);
  }
};

describe.each(databaseEngines(filled))("a later revision of the domain tables on $name", (engine) => {
  let database: Database;
  beforeEach(async () => {
    database = await engine.open();
  });
  afterEach(async () => await database.close());

  const run = (options?: Partial<MigrateOptions>) =>
    migrate(database, { directory: later, logger: silentLogger, ...options });
  const findLaterWork = () => findPendingWork(database, { directory: later });
  const query = async (text: string) => await database.query({ text });

  /** Describes a domain's tables as the catalogue does, with NAME in place of the domain's name. */
  const describeTables = async (name: string) => {
    const rows = await query(`
      select 'column' as kind, c.relname || '.' || a.attname as name,
        concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage, a.attgenerated,
          pg_get_expr(d.adbin, d.adrelid), array_to_string(c.reloptions, ',')) as definition
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where c.relname in ('${name}_memories', '${name}_chunks') and a.attnum > 0
      union all
      select 'index', indexname, indexdef from pg_indexes where tablename in ('${name}_memories', '${name}_chunks')
      union all
      select 'trigger', tgname, pg_get_triggerdef(oid) from pg_trigger
      where tgrelid = to_regclass('${name}_memories') and not tgisinternal
      order by 1, 2`);
    expect(rows.length).toBeGreaterThan(30);
    return JSON.parse(JSON.stringify(rows).replaceAll(name, "NAME"));
  };

  const contentsOf = async (name: string) =>
    await query(`
      select id, content, embedding::text, metadata, version, embedding_state, text_vector::text,
        encode(content_hash, 'hex') as hash, memory_microseconds(updated_at) as updated
      from ${name}_memories order by id`);

  const expectUsable = async (name: string) => {
    const repository = createPostgresRepository(database);
    const found = async (words: string) =>
      (
        await repository.searchText(name, { terms: parseTextQuery(words), depth: 100, minScore: undefined })
      ).candidates.map(({ id }) => id);
    expect(await found("apple")).toHaveLength(50);
    expect(await found("pears")).toEqual(["waits"]);
    await database.query({
      text: `insert into ${name}_memories (id, content, metadata) values ('new', 'two plums', '{}')`,
    });
    expect(await found("plum")).toEqual(["new"]);
    await database.query({ text: `update ${name}_memories set content = 'three figs' where id = 'new'` });
    expect([await found("plum"), await found("fig")]).toEqual([[], ["new"]]);
  };

  test("upgrades existing domains, keeps their memories, and makes them equal to new ones", async () => {
    const before = await Promise.all(names.map(contentsOf));
    const [files, upgraded]: string[][] = [[], []];
    const done = await run({
      onApplied: (name) => files?.push(name),
      onUpgraded: (name) => upgraded?.push(name),
    });
    expect(done).toEqual({ migrations: ["000099_add_notes"], domains: names });
    expect([files, upgraded]).toEqual([done.migrations, names]);
    expect(await Promise.all(names.map(contentsOf))).toEqual(before);

    await query("select create_domain_memories_table('fresh', 3)");
    const fresh = await describeTables("fresh");
    expect(fresh).toContainEqual(expect.objectContaining({ name: "NAME_memories.note" }));
    expect(fresh).toContainEqual(expect.objectContaining({ name: "NAME_memories_note_idx" }));
    for (const name of names) {
      expect(await describeTables(name)).toEqual(fresh);
      await expectUsable(name);
    }
    expect(await run()).toEqual({ migrations: [], domains: [] });
    expect(await findLaterWork()).toEqual({ migrations: [], domains: [] });
  });

  test("resumes after an interruption between two domains", async () => {
    const stop = new AbortController();
    await expect(run({ signal: stop.signal, onUpgraded: () => stop.abort() })).rejects.toThrow();
    const left = await findLaterWork();
    expect(left).toEqual({ migrations: [], domains: [second] });
    expect(describePendingWork(left)).toEqual([`domains with tables of an older revision: ${second}`]);
    expect(await run()).toEqual({ migrations: [], domains: [second] });
    expect(await describeTables(second)).toEqual(await describeTables(first));
  });

  test("is reported by doctor while domains are outdated", async () => {
    await query(`update memory_domains set tables_revision = 0 where name = '${second}'`);
    const detail = `domains with tables of an older revision: ${second}`;
    expect(await checkMigrations(database, true)).toMatchObject({ status: "warning", detail });
    expect(await checkMigrations(database, false)).toMatchObject({ status: "problem" });
    expect(await run({ directory: sqlDirectory })).toEqual({ migrations: [], domains: [second] });
    expect(await checkMigrations(database, true)).toMatchObject({ status: "ok" });
  });

  if (engine.engine === "postgres") {
    test("prevents a start without MEMORY_MIGRATE while domains are outdated", async () => {
      await query(`update memory_domains set tables_revision = 0 where name = '${second}'`);
      const config = readConfig({ DATABASE_URL: urlOf(database), MEMORY_MIGRATE: "false", MEMORY_PORT: "0" });
      await expect(startApp(config, silentLogger)).rejects.toMatchObject({
        name: "StartupError",
        message: `the database lacks the current tables of domain "${second}": run "memory-service migrate", or set MEMORY_MIGRATE=true`,
      });
    });
  }

  test("leaves a domain unchanged if its upgrade fails, and upgrades it later", async () => {
    const before = await describeTables(second);
    await database.execute(`
      create function refuse() returns trigger language plpgsql as $$ begin raise 'not yet'; end $$;
      create trigger refuse before update on memory_domains
        for each row when (new.name = '${second}') execute function refuse();
    `);
    await expect(run()).rejects.toMatchObject({
      name: "StartupError",
      message: `cannot upgrade the tables of domain "${second}": not yet`,
    });
    expect(await describeTables(second)).toEqual(before);
    expect(await findLaterWork()).toEqual({ migrations: [], domains: [second] });
    await database.execute("drop trigger refuse on memory_domains; drop function refuse;");
    expect(await run()).toEqual({ migrations: [], domains: [second] });
    await expectUsable(second);
  });

  test("is applied by the script for psql too", async () => {
    const script = createPsqlScript((await findLaterWork()).migrations);
    // Sends each statement separately, as psql does: a procedural block can only commit on its own.
    const [migrations, domains = ""] = script.split("-- Tables of domains\n");
    await database.session(async (session) => {
      await session.execute(migrations ?? "");
      await session.execute(domains);
    });
    expect(await findLaterWork()).toEqual({ migrations: [], domains: [] });
    for (const name of names) await expectUsable(name);
    expect(await run()).toEqual({ migrations: [], domains: [] });
  });
});
