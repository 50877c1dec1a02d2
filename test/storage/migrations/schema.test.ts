import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../../src/storage/database/database.ts";
import { readTextRanker } from "../../../src/storage/postgres/search/search-text.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

// test/schema.json describes the catalogue of a migrated database with one domain, the same on both engines. After you
// change sql/, regenerate the file and review the difference:
//
//     npx vitest run test/storage/migrations/schema.test.ts -u

const queries: Readonly<Record<string, string>> = {
  tables: `
    select c.relname as "table", array_to_string(c.reloptions, ', ') as options, obj_description(c.oid, 'pg_class') as comment
    from pg_class c
    where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace`,

  columns: `
    select c.relname as "table", a.attname as "column", format_type(a.atttypid, a.atttypmod) as type,
      a.attnotnull as not_null, a.attstorage::text as storage, nullif(a.attidentity::text, '') as identity,
      nullif(a.attgenerated::text, '') as generated, pg_get_expr(d.adbin, d.adrelid) as expression,
      col_description(c.oid, a.attnum) as comment
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped
    order by a.attnum`,

  // Omits "not null" constraints, which PostgreSQL lists only since version 18. The columns show them.
  constraints: `
    select c.relname || '.' || k.conname as "constraint", pg_get_constraintdef(k.oid) as definition
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    where c.relnamespace = 'public'::regnamespace and k.contype <> 'n'`,

  // Omits the index of pg_textsearch, which not every server has.
  indexes: `
    select c.relname as index, pg_get_indexdef(c.oid) as definition, i.indisvalid as valid,
      obj_description(c.oid, 'pg_class') as comment
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    join pg_am a on a.oid = c.relam
    where c.relnamespace = 'public'::regnamespace and a.amname <> 'bm25'`,

  // Omits functions of extensions. The checksums of the migrations protect the bodies of ours.
  functions: `
    select p.proname || '(' || pg_get_function_arguments(p.oid) || ')' as function,
      pg_get_function_result(p.oid) as returns, l.lanname as language, p.provolatile::text as volatility,
      p.proparallel::text as parallel, obj_description(p.oid, 'pg_proc') as comment
    from pg_proc p
    join pg_language l on l.oid = p.prolang
    where p.pronamespace = 'public'::regnamespace
      and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')`,

  views_triggers_sequences: `
    select c.relname as name, c.relkind::text as kind
    from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind not in ('r', 'i')
    union all
    select t.tgname, 'trigger' from pg_trigger t where not t.tgisinternal`,
};

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

describe.each(databaseEngines())("the schema on $name", ({ open, engine }) => {
  let database: Database;

  beforeAll(async () => {
    database = await open();
    await database.query({ text: "select create_domain_memories_table('example')" });
  });
  afterAll(() => database.close());

  const readCatalogue = async () => {
    const catalogue: Record<string, unknown> = {};
    for (const [name, text] of Object.entries(queries)) {
      const rows = await database.query({ text });
      // Omits nulls, because most comments and defaults are null.
      const present = rows.map((row) => Object.entries(row).filter(([, value]) => value !== null));
      // Orders by the first value, a name, independently of the collation of the database, then as the query does.
      const ordered = present.sort(([a], [b]) => compare(String(a?.[1]), String(b?.[1])));
      catalogue[name] = ordered.map((entries) => Object.fromEntries(entries));
    }
    return `${JSON.stringify(catalogue, undefined, 2)}\n`;
  };

  test("is the one in test/schema.json", async () => {
    await expect(await readCatalogue()).toMatchFileSnapshot("../../schema.json");
  });

  test("has a BM25 index if pg_textsearch is available", async () => {
    const ranker = await readTextRanker(database);
    const found = await database.query({
      text: "select to_regclass('example_memories_bm25_idx')::text as index",
    });
    expect(found).toEqual([{ index: ranker === "bm25_index" ? "example_memories_bm25_idx" : null }]);
    if (engine === "embedded") expect(ranker).toBe("bm25_index");
  });

  test("does not change if a domain is created again or its dimensions change and change back", async () => {
    const before = await readCatalogue();
    await database.query({ text: "select create_domain_memories_table('example', 3)" });
    expect(await readCatalogue()).toBe(before);
    for (const dimensions of [2_001, 1_950, 384, 768]) {
      await database.query({ text: "select change_domain_dimensions('example', $1::integer)" }, [dimensions]);
    }
    expect(await readCatalogue()).toBe(before);
  });
});
