import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../../qa/fakes/ollama/index.ts";
import { adoptTables } from "../../../src/legacy/adoption/adopt-tables.ts";
import { planAdoption } from "../../../src/legacy/adoption/adoption-plan.ts";
import { findLegacyTables, registeredDomains } from "../../../src/legacy/adoption/legacy-tables.ts";
import { chunkText } from "../../../src/memory/embed/chunk.ts";
import { parseTextQuery } from "../../../src/memory/model/text-query.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { openPostgresDatabase } from "../../../src/storage/database/server/postgres-database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { createDataDirectory } from "../../support/postgres/data-directory.ts";
import { databaseEngines, empty } from "../../support/postgres/databases.ts";
import { makeOldDomains, type OldMemory, restoreDump } from "../../support/postgres/old-postgres.ts";
import { postgresServers } from "../../support/server/server-engines.ts";
import { openGrpcClient, runProgram, startServerProcess } from "../../support/server/server-process.ts";
import { silentLogger } from "../../support/silent-logger.ts";

vi.setConfig({ testTimeout: 120_000 });

const created = 1_750_000_000_123_456n;
const long = "The garden needs water in summer. ".repeat(400);
const longName = "d".repeat(60);

let ollama: FakeOllama;
beforeAll(async () => {
  ollama = await startFakeOllama();
});
afterAll(async () => await ollama?.close());

/** An embedding as the old server stored it: not normalized and without a prefix. */
const rawEmbedding = (text: string, model?: string) =>
  ollama.embedding(text, model).map((value) => value * 4);

/** Two tables with valid names and three with invalid ones. */
function oldDomains(): Record<string, OldMemory[]> {
  const plain = Array.from({ length: 450 }, (_, n) => ({
    id: `mem_${1_750_000_000_000 + n}`,
    content: `Note ${n} about the garden`,
    embedding: [n + 1, ...Array<number>(767).fill(1)],
    metadata: `{"source": "diary", "importance": 17.5, "created_at": 1750000000.123456, "n": ${n}}`,
    created: created + BigInt(n),
  }));
  const odd: OldMemory[] = [
    { id: "long", content: long, created },
    { id: "zero", content: "zeros", embedding: Array<number>(768).fill(0), created },
    { id: "empty", content: "", created },
    { id: "no time", content: "without times" },
    { id: "list", content: "metadata is a list", metadata: "[1, 2]", created },
    {
      id: "types",
      content: "other types",
      metadata: '{"source": 5, "importance": "high", "tags": ["a", 1], "note": 9007199254740993}',
      created,
    },
    { id: "tags", content: "tagged", metadata: '{"tags": ["a", "b"], "importance": -3}', created },
  ];
  return {
    garden: plain,
    odd,
    Garden: [{ id: "a", content: "upper case", created }],
    'a"b 🌱': [],
    [longName]: [],
  };
}

const map = new Map([
  ["Garden", "garden-2"],
  ['a"b 🌱', "quotes"],
  [longName, "d".repeat(40)],
]);
const wishes = { map, skip: new Set<string>() };
const signal = new AbortController().signal;

const planOf = async (database: Database, asked = wishes) =>
  planAdoption(await findLegacyTables(database), asked, await registeredDomains(database), { copy: false });

const run = async (database: Database, onStep?: (step: string) => void, keepAsVersion?: number) =>
  await adoptTables(database, await planOf(database), {
    keepAsVersion,
    maxChunkLength: 4_000,
    countChunks: (content) => chunkText(content, 4_000).length,
    signal,
    logger: silentLogger,
    onStep: (table, step) => onStep?.(`${table.domain}: ${step}`),
  });

/** Describes the tables of a domain, without its name. */
async function describeTables(database: Database, name: string) {
  const rows = await database.query({
    text: `select 'column' as kind, c.relname || '.' || a.attnum || a.attname as name,
        concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage, a.attgenerated,
          pg_get_expr(d.adbin, d.adrelid), array_to_string(c.reloptions, ','), col_description(c.oid, a.attnum)) as definition
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where c.relname in ('${name}_memories', '${name}_chunks') and a.attnum > 0
      union all
      select 'index', c.relname, concat_ws(' ', pg_get_indexdef(c.oid), obj_description(c.oid))
      from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid in (to_regclass('"${name}_memories"'), to_regclass('"${name}_chunks"'))
      union all
      select 'trigger', tgname, pg_get_triggerdef(oid) from pg_trigger
      where tgrelid = to_regclass('"${name}_memories"') and not tgisinternal
      union all
      select 'constraint', pg_get_constraintdef(oid), concat_ws(' ', contype, convalidated) from pg_constraint
      where conrelid in (to_regclass('"${name}_memories"'), to_regclass('"${name}_chunks"')) and contype <> 'n'
      order by 1, 2`,
  });
  expect(rows.length).toBeGreaterThan(30);
  const neutral = (value: unknown) => String(value).replaceAll('"', "").replaceAll(name, "NAME");
  return rows.map((row) => [row.kind, neutral(row.name), neutral(row.definition)]);
}

const rowsOf = async (database: Database, name: string) =>
  await database.query({
    text: `select id, content, metadata::text, memory_microseconds(created_at) as created, memory_microseconds(updated_at) as updated,
        version, chunk_count, embedding is null as bare, embedding_state, embedding_version, content_hash = sha256(convert_to(content, 'UTF8')) as hashed,
        text_vector = memory_text_vector('english', content) as indexed
      from "${name}_memories" order by id`,
  });

describe.each(databaseEngines(empty).filter(({ engine }) => engine === "postgres"))(
  "on $name",
  ({ open }) => {
    test("turns old tables into domains like new ones, with all their data", async () => {
      const database = await open();
      try {
        await makeOldDomains(database, oldDomains());
        expect((await planOf(database, { map: new Map(), skip: new Set() })).problems).toEqual([
          expect.stringMatching(
            /^"Garden_memories" cannot become the domain "Garden" .*--map 'Garden=new-name'$/,
          ),
          expect.stringContaining(`--map 'a"b 🌱=new-name'`),
          expect.stringMatching(/^"d{60}_me" has a name that PostgreSQL truncated .*=new-name'$/),
        ]);
        const plan = await planOf(database);
        expect(plan.problems).toEqual([]);
        expect(plan.tables.map(({ old, domain }) => [domain, old.counts])).toContainEqual([
          "odd",
          { memories: 7, withoutEmbedding: 6, zeroEmbeddings: 1, oddIds: 1, oddMetadata: 2 },
        ]);

        const done = await run(database);
        expect(done).toContainEqual({
          domain: "garden",
          memories: 450,
          normalised: 0,
          pending: 450,
          changedMetadata: 0,
        });
        expect(done).toContainEqual({
          domain: "odd",
          memories: 7,
          normalised: 0,
          pending: 7,
          changedMetadata: 2,
        });
        await database.query({ text: "select create_domain_memories_table('fresh', 768)" });
        const fresh = await describeTables(database, "fresh");
        for (const { domain } of done) expect(await describeTables(database, domain)).toEqual(fresh);

        const odd = new Map((await rowsOf(database, "odd")).map((row) => [row.id, row]));
        for (const row of odd.values()) {
          expect(row).toMatchObject({
            version: 1n,
            bare: true,
            embedding_state: "pending",
            hashed: true,
            indexed: true,
          });
        }
        expect(odd.get("long")).toMatchObject({ content: long, chunk_count: 4, created, updated: created });
        expect(odd.get("list")).toMatchObject({ metadata: '{"old_metadata": [1, 2]}' });
        expect(
          JSON.parse(String(odd.get("types")?.metadata).replace("9007199254740993", '"9007199254740993"')),
        ).toEqual({
          old_source: 5,
          old_importance: "high",
          old_tags: ["a", 1],
          note: "9007199254740993",
        });
        expect(odd.get("tags")).toMatchObject({ metadata: '{"tags": ["a", "b"], "importance": -3}' });
        const repository = createPostgresRepository(database);
        expect(await repository.read("garden", "mem_1750000000007")).toMatchObject({
          content: "Note 7 about the garden",
          source: "diary",
          importance: 17.5,
          metadata: { n: 7, created_at: 1750000000.123456 },
          createTime: created + 7n,
          updateTime: created + 7n,
        });
        const found = await repository.searchText("garden", {
          terms: parseTextQuery("gardens"),
          depth: 500,
          minScore: undefined,
        });
        expect(found.candidates).toHaveLength(450);

        expect((await planOf(database)).tables).toEqual([]);
        expect(await registeredDomains(database)).toEqual(
          new Set(["garden", "odd", "garden-2", "quotes", "d".repeat(40), "fresh"]),
        );
      } finally {
        await database.close();
      }
    });

    test("resumes after an interruption before any step, while others write", async () => {
      const { garden = [], Garden = [] } = oldDomains();
      const domains = { garden, Garden };
      const whole = await open();
      const steps: string[] = [];
      await makeOldDomains(whole, domains);
      await run(whole, (step) => steps.push(step));
      const expected = [await rowsOf(whole, "garden"), await describeTables(whole, "garden")];
      await whole.close();
      expect(new Set(steps).size).toBeGreaterThan(25);

      const database = await open();
      try {
        await makeOldDomains(database, domains);
        const left = [...new Set(steps)];
        for (const stop of left) {
          const stopped = run(database, (step) => {
            if (step === stop) throw new Error(`stopped before ${step}`);
          });
          await expect(stopped, stop).rejects.toThrow("stopped before");
          // The old server writes in the meantime.
          if (stop === "garden: fill columns") {
            await database.query({
              text: "insert into garden_memories (id, content, metadata) values ('mem_2', 'meanwhile', '{}')",
            });
            await database.query({ text: "delete from garden_memories where id = 'mem_2'" });
          }
          // The result of an interrupted "create index concurrently".
          if (stop === "garden: build garden_memories_text_idx") {
            await database.execute(`update pg_index set indisvalid = false
              where indexrelid = 'garden_memories_metadata_idx'::regclass`);
          }
        }
        await run(database);
        expect(
          await database.query({
            text: "select indexrelid::regclass::text from pg_index where not indisvalid",
          }),
        ).toEqual([]);
        expect([await rowsOf(database, "garden"), await describeTables(database, "garden")]).toEqual(
          expected,
        );
      } finally {
        await database.close();
      }
    });

    test("waits for users of a table without blocking others", async () => {
      const database = await open({ poolSize: 8 });
      try {
        await makeOldDomains(database, { garden: oldDomains().garden ?? [] });
        const reads: Promise<unknown>[] = [];
        const { adopting } = await database.transaction(async (transaction) => {
          await transaction.query({ text: "select count(*) from garden_memories" });
          const tried = Promise.withResolvers<void>();
          const adopting = run(database, (step) => {
            if (step === "garden: add columns") tried.resolve();
          });
          await tried.promise;
          // Queues behind the waiting statement, which times out after two seconds.
          reads.push(database.query({ text: "select count(*) from garden_memories" }));
          await Promise.all(reads);
          // Not awaited here, because it waits for the end of this transaction.
          return { adopting };
        });
        expect(await adopting).toMatchObject([{ domain: "garden", memories: 450 }]);
      } finally {
        await database.close();
      }
    });

    test("rejects two tables with one name, and the name of an existing domain", async () => {
      const database = await open();
      try {
        await makeOldDomains(database, { garden: [], Garden: [] });
        const both = new Map([["Garden", "garden"]]);
        expect((await planOf(database, { map: both, skip: new Set() })).problems).toEqual([
          '"garden_memories" and "Garden_memories" would both become the domain "garden"; map one of them to another name',
        ]);
        const skipping = await planOf(database, { map: new Map(), skip: new Set(["Garden"]) });
        expect(skipping).toMatchObject({ problems: [], tables: [{ domain: "garden" }] });
        await adoptTables(database, skipping, {
          keepAsVersion: undefined,
          maxChunkLength: 4_000,
          countChunks: () => 1,
          signal,
          logger: silentLogger,
        });
        expect((await planOf(database, { map: both, skip: new Set() })).problems).toEqual([
          '"Garden_memories" cannot become the domain "garden", which already exists',
        ]);
      } finally {
        await database.close();
      }
    });
  },
);

describe.each(postgresServers())("the command on $name", ({ create }) => {
  const json = async (args: readonly string[], env: Readonly<Record<string, string>>) => {
    const { code, stdout, stderr } = await runProgram(["adopt", "--json", ...args], {
      env: { OLLAMA_API_URL: ollama.url, ...env },
    });
    return { code, stderr, report: stdout === "" ? undefined : JSON.parse(stdout) };
  };
  const withDatabase = async (url: string, work: (database: Database) => Promise<void>) => {
    const database = await openPostgresDatabase({
      connection: { connectionString: url },
      poolSize: 2,
      logger: silentLogger,
    });
    try {
      await work(database);
    } finally {
      await database.close();
    }
  };

  test("shows the plan, carries it out, and semantic search finds everything", async () => {
    await using data = await create();
    await withDatabase(data.url, async (database) => {
      const texts = ["The doctor is ill", "Parking costs two euros", long];
      const memories = texts.map((content, n) => ({
        id: `m${n}`,
        content,
        embedding: rawEmbedding(content),
        created,
      }));
      await makeOldDomains(database, { default: memories, Garden: [] });
    });
    const started = await runProgram(["migrate"], { env: data.env });
    expect(started.stderr).toContain('run "memory-service adopt"');

    const refused = await json(["--yes"], data.env);
    expect(refused).toMatchObject({
      code: 1,
      report: { done: false, problems: [expect.stringContaining("Garden")] },
    });
    const shown = await json(["--map", "Garden=garden"], data.env);
    expect(shown).toMatchObject({
      code: 0,
      report: { done: false, problems: [], tables: [{}, { memories: 3 }] },
    });
    const prefixed = await json(["--skip", "Garden", "--normalise", "--yes"], data.env);
    expect(prefixed).toMatchObject({ code: 1, stderr: expect.stringContaining("--despite-prefixes") });
    const done = await json(["--map", "Garden=garden", "--yes"], data.env);
    expect(done).toMatchObject({
      code: 0,
      report: { done: true, results: [{}, { domain: "default", pending: 3 }] },
    });
    expect(await json([], data.env)).toMatchObject({ code: 0, report: { tables: [] } });

    await using server = await startServerProcess({ env: { ...data.env, OLLAMA_API_URL: ollama.url } });
    using grpc = openGrpcClient(server.url);
    await vi.waitFor(async () => {
      const { memory } = await grpc.client.get({ id: "m2" });
      expect(memory).toMatchObject({ content: long, embedding: { state: 2 } });
      expect(memory?.chunkCount).toBeGreaterThan(1);
      const { hits, info } = await grpc.client.search({ query: "The physician is unwell" });
      expect(hits[0]?.memory?.id).toBe("m0");
      expect(info?.degraded).toBe(false);
    }, 30_000);
  });

  test("keeps the old embeddings on request if they match the model", async () => {
    const env = { OLLAMA_EMBEDDING_MODEL: "all-minilm" };
    await using data = await create();
    const texts = ["The doctor is ill", "Parking costs two euros", ""];
    await withDatabase(data.url, async (database) => {
      await makeOldDomains(database, { other: [] });
      await database.execute("alter table other_memories alter column embedding type vector(384)");
      for (const [n, content] of texts.entries()) {
        const embedding = content === "" ? Array<number>(384).fill(0) : rawEmbedding(content, "all-minilm");
        await database.query(
          {
            text: "insert into other_memories (id, content, metadata, embedding) values ($1, $2, '{}', $3::text::vector)",
          },
          [`m${n}`, content, `[${[...embedding].join(",")}]`],
        );
      }
    });
    const done = await json(["--normalise", "--yes"], { ...data.env, ...env });
    expect(done, done.stderr).toMatchObject({
      code: 0,
      report: { results: [{ memories: 3, normalised: 2, pending: 1 }] },
    });
    const embedded = ollama.requests.length;
    await using server = await startServerProcess({
      env: { ...data.env, ...env, OLLAMA_API_URL: ollama.url },
    });
    using grpc = openGrpcClient(server.url);
    await vi.waitFor(async () => {
      const { hits, info } = await grpc.client.search({ query: "The physician is unwell", domain: "other" });
      expect(hits[0]?.memory).toMatchObject({ id: "m0", embedding: { state: 2, version: 1 } });
      expect(info?.degraded).toBe(false);
    }, 30_000);
    const documents = ollama.requests
      .slice(embedded)
      .filter(({ body }) => JSON.stringify(body).includes("The doctor is ill"));
    expect(documents).toEqual([]);

    await using strange = await create();
    await withDatabase(strange.url, async (database) => {
      await makeOldDomains(database, {
        other: [
          { id: "m", content: "The doctor is ill", embedding: rawEmbedding("Something else"), created },
        ],
      });
    });
    expect(await json(["--normalise", "--yes"], { ...strange.env, ...env })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("does not match what all-minilm computes today"),
    });
  });

  test("copies into an embedded database, and a repeated copy stores nothing twice", async () => {
    await using source = await create();
    await using target = await createDataDirectory();
    await withDatabase(source.url, async (database) => {
      const { odd = [], garden = [] } = oldDomains();
      garden.length = 40;
      await makeOldDomains(database, { empty: [], garden, Odd: odd });
    });
    const before = await contentsOf(source.url);
    const args = ["--from", source.url, "--map", "Odd=odd", "--yes"];
    const first = await json(args, target.env);
    expect(first, first.stderr).toMatchObject({
      code: 0,
      report: {
        results: [
          { domain: "odd", memories: 7, created: 7, inexactNumbers: 1 },
          { domain: "empty", memories: 0, created: 0 },
          { domain: "garden", memories: 40, created: 40 },
        ],
      },
    });
    expect((await json(args, target.env)).report.results).toMatchObject([
      { unchanged: 7 },
      { unchanged: 0 },
      { unchanged: 40 },
    ]);
    await withDatabase(source.url, async (database) => {
      await database.execute("update garden_memories set content = 'changed' where id = 'mem_1750000000007'");
    });
    expect((await json(args, target.env)).report.results).toMatchObject([
      { unchanged: 7 },
      { unchanged: 0 },
      { unchanged: 39, kept: 1 },
    ]);
    expect((await json([...args, "--on-conflict", "replace"], target.env)).report.results).toMatchObject([
      { unchanged: 7 },
      { unchanged: 0 },
      { unchanged: 39, replaced: 1 },
    ]);
    expect(before).toHaveLength(47);

    await using server = await startServerProcess({ env: target.env });
    using grpc = openGrpcClient(server.url);
    expect((await grpc.client.list({ domain: "empty" })).memories).toEqual([]);
    const { memory } = await grpc.client.get({ domain: "garden", id: "mem_1750000000008" });
    expect(memory).toMatchObject({
      content: "Note 8 about the garden",
      source: "diary",
      importance: 17.5,
      createTime: { seconds: 1_750_000_000n, nanos: 123_464_000 },
    });
    const types = await grpc.client.get({ domain: "odd", id: "types" });
    expect(types.memory?.metadata?.old_metadata_text).toContain("9007199254740993");
  });

  async function contentsOf(url: string) {
    const rows: unknown[] = [];
    await withDatabase(url, async (database) => {
      rows.push(
        ...(await database.query({
          text: 'select id, content from garden_memories union all select id, content from "Odd_memories"',
        })),
      );
    });
    return rows;
  }
});

// A dump of the old server itself, if it is available.
const dump = fileURLToPath(
  new URL("../../../../shared/fixtures/legacy/postgres-head.dump.sql", import.meta.url),
);
describe.each(existsSync(dump) ? databaseEngines(empty).filter(({ engine }) => engine === "postgres") : [])(
  "a dump of the old server on $name",
  ({ open }) => {
    test("becomes domains", async () => {
      const database = await open();
      try {
        await restoreDump(database, dump);
        const plan = await planOf(database, {
          skip: new Set(),
          map: new Map([
            ["Health", "health-2"],
            ["d".repeat(58), "long-name"],
            ["übersee-日本", "overseas"],
          ]),
        });
        expect(plan.problems).toEqual([]);
        const done = await adoptTables(database, plan, {
          keepAsVersion: undefined,
          maxChunkLength: 4_000,
          countChunks: (content) => chunkText(content, 4_000).length,
          signal,
          logger: silentLogger,
        });
        expect(done).toHaveLength(7);
        expect(done.reduce((sum, { memories }) => sum + memories, 0)).toBe(57);
      } finally {
        await database.close();
      }
    });
  },
);
