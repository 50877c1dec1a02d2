import { afterEach, expect, test } from "vitest";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { domainTables } from "../../../src/storage/postgres/domains/domain-tables.ts";
import { vacuumTables } from "../../../src/storage/postgres/domains/maintenance.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

let database: Database | undefined;

afterEach(async () => {
  await database?.close();
  database = undefined;
});

for (const { name, open } of databaseEngines()) {
  test(`tables that have grown are analysed once, and small ones never, on ${name}`, async () => {
    database = await open();
    await createPostgresRepository(database).createDomain("large", 3);
    await createPostgresRepository(database).createDomain("small", 3);
    const fill = (domain: string, rows: number) =>
      database?.query(
        {
          text: `insert into ${domain}_memories (id, content, metadata)
            select gen_random_uuid()::text, repeat('-', 500), '{}' from generate_series(1, $1::integer)`,
        },
        [rows],
      );
    await fill("large", 1_500);
    await fill("small", 10);

    expect(await vacuumTables(database)).toEqual(['"large_memories"']);
    expect(await vacuumTables(database)).toEqual([]);
    await fill("large", 1_500);
    expect(await vacuumTables(database)).toEqual(['"large_memories"']);
  });
}

const embedded = databaseEngines().filter(({ name }) => name === "embedded");

test.each(embedded)(
  "memories that are replaced again and again take no more place, on $name",
  async ({ open }) => {
    database = await open();
    const domain = "busy";
    await createPostgresRepository(database).createDomain(domain, 64);
    const { memories } = domainTables(domain);
    const query = (text: string) => database?.query({ text }, []);
    const vector = "(select array_agg(random() - 0.5) from generate_series(1, 64) where id = id)::vector";
    await query(`insert into ${memories} (id, content, metadata)
    select i::text, repeat('word ', 200), '{}' from generate_series(1, 300) i`);
    await query(`update ${memories} set embedding = ${vector}`);
    await vacuumTables(database);
    const sizeOf = async () => {
      const [row] =
        (await query(`select pg_table_size('${memories}') as table, pg_indexes_size('${memories}') as indexes,
      pg_relation_size('${domain}_memories_embedding_idx') as vectors`)) as [Record<string, bigint>];
      return row;
    };
    const before = await sizeOf();
    for (let round = 0; round < 20; round++) {
      await query(`update ${memories} set content = content || ' ${round}', embedding = ${vector}
      where id::integer % 5 = ${round % 5}`);
      await vacuumTables(database);
    }
    const after = await sizeOf();
    // Four times replaced: without upkeep five times as large.
    for (const [part, size] of Object.entries(after)) {
      expect(Number(size) / Number(before[part]), part).toBeLessThan(2.2);
    }
    const [count] = (await query(`select count(*) as memories from ${memories}`)) as [{ memories: bigint }];
    expect(count.memories).toBe(300n);
  },
);

test.each(embedded)(
  "words that were written one by one are put together in one segment, on $name",
  async ({ open }) => {
    const opened = await open();
    database = opened;
    await createPostgresRepository(opened).createDomain("a-b", 3);
    const segments = async () => {
      const [row] = (await opened.query({
        text: `select bm25_level_counts('"a-b_memories_bm25_idx"')::text as levels,
        (select count(*) from bm25_memtable_chain('a-b_memories_bm25_idx')) as pages`,
      })) as [{ levels: string; pages: bigint }];
      return row;
    };
    for (let i = 0; i < 1_500; i += 50) {
      await database.query({
        text: `insert into "a-b_memories" (id, content, metadata)
        select ${i} + n || '', 'word ' || repeat(n || ' w' || n + ${i} || ' ', 30), '{}' from generate_series(1, 50) n`,
      });
    }
    expect((await segments()).pages).toBeGreaterThan(0n);
    expect(await vacuumTables(database)).toEqual(['"a-b_memories"']);
    const { levels, pages } = await segments();
    expect(pages).toBe(0n);
    expect(levels.match(/[1-9]/g)).toEqual(["1"]);
  },
);

test.each(embedded)("a table whose counts were lost is vacuumed once, on $name", async ({ open }) => {
  database = await open();
  await createPostgresRepository(database).createDomain("lost", 3);
  await database.query({
    text: `insert into lost_memories (id, content, metadata)
      select i::text, repeat('-', 500), '{}' from generate_series(1, 1500) i`,
  });
  await vacuumTables(database);
  await database.query({ text: "select pg_stat_reset()" });
  expect(await vacuumTables(database)).toEqual(['"lost_memories"']);
  expect(await vacuumTables(database)).toEqual([]);
});
