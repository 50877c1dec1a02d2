import { copyFile, mkdtemp, readdir, rm } from "node:fs/promises";
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
  describePending,
  type MigrateOptions,
  migrate,
  pending,
  scriptOf,
  sqlDirectory,
} from "../../../src/storage/migrations/migrations.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { databaseEngines, urlOf } from "../../support/postgres/databases.ts";
import { silentLogger } from "../../support/silent-logger.ts";

/** The longest name too: what an upgrade adds must fit. */
const names = ["early", "m".repeat(40)] as const;
const [first, second] = names;

let old: string;
let unpadded: string;
beforeAll(async () => {
  old = await copyMigrations(3);
  unpadded = await copyMigrations(5);
});
afterAll(async () => {
  await rm(old, { recursive: true });
  await rm(unpadded, { recursive: true });
});

/** A directory with the first migrations. */
async function copyMigrations(count: number): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "memory-service-migrations-"));
  const files = (await readdir(sqlDirectory)).filter((file) => Number.parseInt(file, 10) <= count);
  for (const file of files) await copyFile(join(fileURLToPath(sqlDirectory), file), join(directory, file));
  return directory;
}

/** A database as the first revision left it, with two filled domains. */
const filled = async (database: Database) => {
  await migrate(database, { directory: old, logger: silentLogger });
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

describe.each(databaseEngines(filled))("a database of the first revision on $name", (engine) => {
  let database: Database;
  beforeEach(async () => {
    database = await engine.open();
  });
  afterEach(async () => await database.close());

  const run = (options?: Partial<MigrateOptions>) =>
    migrate(database, { directory: sqlDirectory, logger: silentLogger, ...options });
  const query = async (text: string) => await database.query({ text });

  /** What the catalogue knows of a domain's tables, without the name. */
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

  test("is brought up to date with everything in it, and is like a new one then", async () => {
    const before = await Promise.all(names.map(contentsOf));
    const [files, upgraded]: string[][] = [[], []];
    const done = await run({
      onApplied: (name) => files?.push(name),
      onUpgraded: (name) => upgraded?.push(name),
    });
    expect(done.domains).toEqual(names);
    expect([files, upgraded]).toEqual([done.migrations, names]);
    expect(done.migrations[0]).toBe("000004_extend_domains");
    expect(await Promise.all(names.map(contentsOf))).toEqual(before);

    await query("select create_domain_memories_table('fresh', 3)");
    const fresh = await describeTables("fresh");
    for (const name of names) {
      expect(await describeTables(name)).toEqual(fresh);
      await expectUsable(name);
    }
    expect(await run()).toEqual({ migrations: [], domains: [] });
    expect(await pending(database, { directory: sqlDirectory })).toEqual({ migrations: [], domains: [] });
  });

  test("goes on after an interruption between two domains", async () => {
    const stop = new AbortController();
    await expect(run({ signal: stop.signal, onUpgraded: () => stop.abort() })).rejects.toThrow();
    const left = await pending(database, { directory: sqlDirectory });
    expect(left).toEqual({ migrations: [], domains: [second] });
    expect(describePending(left)).toEqual([`domains with tables of an older revision: ${second}`]);
    const detail = `domains with tables of an older revision: ${second}`;
    expect(await checkMigrations(database, true)).toMatchObject({ status: "warning", detail });
    expect(await checkMigrations(database, false)).toMatchObject({ status: "problem" });
    expect(await run()).toEqual({ migrations: [], domains: [second] });
    expect(await checkMigrations(database, true)).toMatchObject({ status: "ok" });
    expect(await describeTables(second)).toEqual(await describeTables(first));
  });

  if (engine.engine === "postgres") {
    test("is not served where a start may not bring it up to date", async () => {
      const stop = new AbortController();
      await expect(run({ signal: stop.signal, onUpgraded: () => stop.abort() })).rejects.toThrow();
      const config = readConfig({ DATABASE_URL: urlOf(database), MEMORY_MIGRATE: "false", MEMORY_PORT: "0" });
      await expect(startApp(config, silentLogger)).rejects.toMatchObject({
        name: "StartupError",
        message: `the database lacks the present tables of domain "${second}": run "memory-service migrate", or set MEMORY_MIGRATE=true`,
      });
    });
  }

  test("keeps a domain as it was whose upgrade fails, and goes on when it can", async () => {
    const before = await describeTables(second);
    await database.execute(`
      create function refuse() returns trigger language plpgsql as $$ begin raise 'not yet'; end $$;
      create trigger refuse before update on memory_domains
        for each row when (new.name = '${second}') execute function refuse();
    `);
    await expect(run()).rejects.toMatchObject({
      name: "StartupError",
      message: `the tables of domain "${second}" cannot be brought up to date: not yet`,
    });
    expect(await describeTables(second)).toEqual(before);
    expect(await pending(database, { directory: sqlDirectory })).toEqual({
      migrations: [],
      domains: [second],
    });
    await database.execute("drop trigger refuse on memory_domains; drop function refuse;");
    expect(await run()).toEqual({ migrations: [], domains: [second] });
    await expectUsable(second);
  });

  test("is brought up to date by the printed script alike", async () => {
    const script = scriptOf((await pending(database, { directory: sqlDirectory })).migrations);
    // One statement after the other, as psql sends them: a procedural block commits only on its own.
    const [migrations, domains = ""] = script.split("-- Tables of domains\n");
    await database.session(async (session) => {
      await session.execute(migrations ?? "");
      await session.execute(domains);
    });
    expect(await pending(database, { directory: sqlDirectory })).toEqual({ migrations: [], domains: [] });
    for (const name of names) await expectUsable(name);
    expect(await run()).toEqual({ migrations: [], domains: [] });
  });
});

const contents = [
  "apple",
  "apple pie",
  `apple ${Array.from({ length: 30 }, (_, i) => `other${i}`).join(" ")}`,
];

describe.each(
  databaseEngines(async (database) => {
    await migrate(database, { directory: unpadded, logger: silentLogger });
    await fill(database, "before");
  }),
)("a BM25 index of texts that were not padded on $name", ({ open }) => {
  test("ranks after the upgrade as a new one does", async () => {
    const database = await open();
    try {
      await migrate(database, { directory: sqlDirectory, logger: silentLogger });
      await fill(database, "fresh");
      const repository = createPostgresRepository(database);
      const find = (name: string) =>
        repository.searchText(name, { terms: parseTextQuery("apple"), depth: 100, minScore: undefined });
      const { candidates, ranker } = await find("fresh");
      const [first, second, third] = candidates;
      expect([first?.id, second?.id, third?.id]).toEqual(["m0", "m1", "m2"]);
      expect(second?.score).toBeCloseTo(first?.score ?? 0, 5);
      expect(third?.score).toBeLessThan(first?.score ?? 0);
      expect(await find("before")).toEqual({ candidates, ranker, exhausted: true });
    } finally {
      await database.close();
    }
  });
});

/** A new domain with the contents above. */
async function fill(database: Database, name: string): Promise<void> {
  await database.query({ text: "select create_domain_memories_table($1, 3)" }, [name]);
  for (const [index, content] of contents.entries()) {
    await database.query(
      { text: `insert into ${name}_memories (id, content, metadata) values ($1, $2, '{}')` },
      [`m${index}`, content],
    );
  }
}
