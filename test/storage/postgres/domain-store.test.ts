import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_DOMAIN_SETTINGS } from "../../../src/memory/model/domain.ts";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { parseTextQuery } from "../../../src/memory/model/text-query.ts";
import { SNIPPET_LENGTH } from "../../../src/memory/search/snippet.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { at, domainRecord, draft, embedding, newDomainName } from "../../support/drafts.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";
import { requireDeclaredWrites } from "../../support/postgres/require-declared-writes.ts";

const INVALID_PARAMETER_VALUE = "22023";
const german = { ...DEFAULT_DOMAIN_SETTINGS, textSearchConfig: "german" };

describe.each(databaseEngines())("domains on $name", ({ open }) => {
  let database: Database;
  let repository: Repository;
  let version: number;

  beforeAll(async () => {
    database = await open({ poolSize: 10 });
    repository = createPostgresRepository(requireDeclaredWrites(database));
    const space = { model: "m", digest: "", dimensions: 3, profile: "p/1" };
    version = await repository.registerEmbeddingVersion(space, 1);
  });
  afterAll(() => database.close());

  const query = async (text: string, parameters: readonly string[] = []) =>
    await database.query({ text }, parameters);
  /** Without that of pg_textsearch, which not every server has. */
  const indexesOf = async (table: string) =>
    (
      await query(
        "select indexname::text from pg_indexes where tablename = $1 and indexdef not like '% USING bm25 %' order by 1",
        [table],
      )
    ).map((row) => row.indexname);
  const tables = async () =>
    (
      await query(
        "select relname::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
      )
    )
      .map((row) => String(row.relname))
      .sort();

  test.each(["default", "user", "select", "a-b", "a_b", "a", "x9", `${"a".repeat(39)}-`, "m".repeat(40)])(
    "are created with all their indexes under the name %s",
    async (name) => {
      expect(await repository.createDomain(name, 3)).toEqual({
        created: true,
        domain: domainRecord({
          id: expect.any(BigInt),
          name,
          createTime: expect.any(BigInt),
          dimensions: 3,
        }),
      });
      expect(await indexesOf(`${name}_memories`)).toEqual(
        [
          "created_idx",
          "embedding_idx",
          "expires_idx",
          "failed_idx",
          "metadata_idx",
          "pending_idx",
          "pkey",
          "text_idx",
          "updated_idx",
          "version_idx",
        ].map((suffix) => `${name}_memories_${suffix}`),
      );
      expect(await indexesOf(`${name}_chunks`)).toEqual([
        `${name}_chunks_embedding_idx`,
        `${name}_chunks_pkey`,
      ]);

      await repository.useEmbeddingVersion(name, version, 3);
      await repository.insert(
        name,
        draft({ id: "m", content: "apple", embedding: embedding(version, 0, 90) }),
      );
      const near = { embedding: at(90), embeddingVersion: version, depth: 5, minSimilarity: undefined };
      expect((await repository.searchSemantic(name, near)).candidates).toMatchObject([
        { id: "m", chunkIndex: 1 },
      ]);
      const words = { terms: parseTextQuery("apple"), depth: 5, minScore: undefined };
      expect((await repository.searchText(name, words)).candidates).toMatchObject([{ id: "m" }]);
    },
  );

  test("with similar names do not affect each other", async () => {
    const names = ["p", "p_memories", "p-memories", "p_chunks"];
    for (const name of names) await repository.createDomain(name, 3);
    for (const name of names) await repository.insert(name, draft({ id: "m", content: name }));
    for (const name of names) {
      const [found] = await repository.fetch(name, [{ id: "m", chunkIndex: undefined }], {
        content: true,
        snippetLength: SNIPPET_LENGTH,
      });
      expect(found?.memory).toMatchObject({ domain: name, content: name });
    }
  });

  test.each([
    "",
    "A",
    "1a",
    "-a",
    "_a",
    "a b",
    "a;b",
    'a"b',
    "a'b",
    "ä",
    "a".repeat(41),
    "a".repeat(64),
    "a\nb",
    "a\n",
    "аbc",
  ])("are refused under the name %j", async (name) => {
    const before = await tables();
    await expect(repository.createDomain(name, 3)).rejects.toThrow();
    await expect(query("select create_domain_memories_table($1)", [name])).rejects.toMatchObject({
      sqlstate: INVALID_PARAMETER_VALUE,
    });
    await expect(repository.insert(name, draft())).rejects.toThrow();
    expect(await tables()).toEqual(before);
    expect(await repository.listDomains()).not.toContainEqual(expect.objectContaining({ name }));
  });

  test("stay unchanged when they are created again", async () => {
    const name = newDomainName();
    const first = await repository.createDomain(name, 3);
    const memory = await repository.insert(name, draft({ id: "m" }));
    const again = await repository.createDomain(name, 5, {
      settings: { ...german, deduplicateContent: true },
    });
    expect(again).toEqual({ domain: first.domain, created: false });
    await query("select create_domain_memories_table($1)", [name]);
    expect(await repository.findDomain(name)).toEqual(first.domain);
    const [found] = await repository.fetch(name, [{ id: "m", chunkIndex: undefined }], {
      content: true,
      snippetLength: SNIPPET_LENGTH,
    });
    expect(found?.memory).toEqual(memory);
  });

  test("are created once by fifty concurrent calls", async () => {
    const name = newDomainName();
    // Without the checks of declared writes, whose further statements keep connections busy for longer.
    const unchecked = createPostgresRepository(database);
    const made = await Promise.all(Array.from({ length: 50 }, () => unchecked.createDomain(name, 3)));
    expect(new Set(made.map(({ domain }) => domain.id)).size).toBe(1);
    expect(made.filter(({ created }) => created)).toHaveLength(1);
    expect(await indexesOf(`${name}_memories`)).toHaveLength(10);
  });

  test("are all created when fifty are created concurrently", async () => {
    const names = Array.from({ length: 50 }, () => newDomainName());
    // A call that waits too long for a connection fails and may be retried.
    const make = async (name: string): Promise<unknown> =>
      repository.createDomain(name, 3).catch((error) => {
        if (error.reason !== "OVERLOADED") throw error;
        return make(name);
      });
    await Promise.all(names.map(make));
    const known = (await repository.listDomains()).map((domain) => domain.name);
    expect(known).toEqual(expect.arrayContaining(names));
    expect([...known].sort()).toEqual(known);
  });

  test("keep the settings they were created with", async () => {
    const name = newDomainName();
    const settings = {
      ...german,
      description: "Über Äpfel",
      embeddingModel: "bge-m3",
      requestedDimensions: 3,
      deduplicateContent: true,
    };
    const { domain } = await repository.createDomain(name, 3, { settings });
    expect(domain).toMatchObject(settings);
    expect(await indexesOf(`${name}_memories`)).toContain(`${name}_memories_content_idx`);
    await repository.insert(name, draft({ id: "m", content: "zwei Häuser" }));
    expect(
      await repository.searchText(name, { terms: parseTextQuery("Haus"), depth: 5, minScore: undefined }),
    ).toMatchObject({
      candidates: [{ id: "m" }],
    });
  });

  test("do not exceed the maximum when fifty are created concurrently", async () => {
    const existing = (await repository.listDomains()).length;
    const options = { maxDomains: existing + 3 };
    const results = await Promise.allSettled(
      Array.from({ length: 50 }, () => repository.createDomain(newDomainName(), 3, options)),
    );
    const failed = results.filter((result) => result.status === "rejected").map(({ reason }) => reason);
    expect(failed).toHaveLength(47);
    for (const error of failed) {
      expect(error).toMatchObject({
        reason: "DOMAIN_LIMIT_REACHED",
        message: `the maximum of ${existing + 3} domains is reached; delete a domain or raise MEMORY_MAX_DOMAINS`,
      });
    }
    const [known] = await repository.listDomains();
    // Creating an existing domain does not count.
    expect(await repository.createDomain(known?.name ?? "", 3, options)).toMatchObject({ created: false });
  });

  test("change their dimensions once when many calls change them concurrently", async () => {
    const name = newDomainName();
    await repository.createDomain(name, 3);
    const space = { model: "wide", digest: "", dimensions: 4, profile: "p/1" };
    const wide = await repository.registerEmbeddingVersion(space, 1);
    await Promise.all(Array.from({ length: 10 }, () => repository.useEmbeddingVersion(name, wide, 4)));
    expect(await repository.findDomain(name)).toMatchObject({ dimensions: 4, embeddingVersion: wide });
    expect(await indexesOf(`${name}_memories`)).toHaveLength(10);
  });

  test("with more dimensions than an HNSW index supports are searched without one", async () => {
    const name = newDomainName();
    await repository.createDomain(name, 2_001);
    expect(await indexesOf(`${name}_memories`)).toHaveLength(9);
    const space = { model: "huge", digest: "", dimensions: 2_001, profile: "p/1" };
    const huge = await repository.registerEmbeddingVersion(space, 1);
    const vector = new Float32Array(2_001);
    vector[2_000] = 1;
    const chunks = [{ start: 0, end: 1, vector }];
    await repository.insert(name, draft({ id: "m", embedding: { version: huge, chunks } }));
    const found = await repository.searchSemantic(name, {
      embedding: vector,
      embeddingVersion: huge,
      depth: 5,
      minSimilarity: undefined,
    });
    expect(found.candidates).toEqual([{ id: "m", score: 1, chunkIndex: 0 }]);
  });

  test("get a new index if a failed build left it invalid", async () => {
    const name = newDomainName();
    await repository.createDomain(name, 3);
    const index = `${name}_memories_embedding_idx`;
    await query("update pg_index set indisvalid = false where indexrelid = to_regclass($1)", [index]);
    await repository.createDomain(name, 3);
    expect(
      await query("select indisvalid from pg_index where indexrelid = to_regclass($1)", [index]),
    ).toEqual([{ indisvalid: true }]);
  });

  test("with the table of the original plan are updated with their memories", async () => {
    const name = newDomainName();
    await database.execute(`
      create table ${name}_memories (
        id varchar(50) primary key,
        content text not null,
        embedding vector(3),
        metadata jsonb not null,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
      );
      insert into ${name}_memories (id, content, embedding, metadata)
      values ('old', 'an old apple', '[1,0,0]', '{"source": "s", "importance": 0.5}');
    `);
    await repository.createDomain(name, 3);
    expect(await indexesOf(`${name}_memories`)).toHaveLength(10);
    const [found] = await repository.fetch(name, [{ id: "old", chunkIndex: undefined }], {
      content: true,
      snippetLength: SNIPPET_LENGTH,
    });
    expect(found?.memory).toMatchObject({ source: "s", importance: 0.5, embedding: { state: "pending" } });
    expect(
      await repository.searchText(name, { terms: parseTextQuery("apple"), depth: 5, minScore: undefined }),
    ).toMatchObject({ candidates: [{ id: "old" }] });
    await repository.useEmbeddingVersion(name, version, 3);
    expect(await repository.leasePending(name, version, 5, 0)).toMatchObject([{ id: "old" }]);
  });

  const uses: readonly [string, (name: string) => Promise<unknown>][] = [
    ["insert", (name) => repository.insert(name, draft({ id: "m" }))],
    ["insert of chunks", (name) => repository.insert(name, draft({ embedding: embedding(1, 0, 1) }))],
    ["change", (name) => repository.change(name, "m", () => draft({ id: "m" }))],
    ["leasePending", (name) => repository.leasePending(name, 1, 1, 0)],
    ["completeEmbedding", (name) => repository.completeEmbedding(name, leased, embedding(1, 0))],
    ["postponeEmbedding", (name) => repository.postponeEmbedding(name, ["m"], 0, true)],
    ["releaseEmbedding", (name) => repository.releaseEmbedding(name, "m")],
    ["failEmbedding", (name) => repository.failEmbedding(name, leased, "x")],
    [
      "searchText",
      (name) => repository.searchText(name, { terms: parseTextQuery("a"), depth: 1, minScore: undefined }),
    ],
    ["searchSemantic", (name) => repository.searchSemantic(name, nearest(5))],
    ["deep searchSemantic", (name) => repository.searchSemantic(name, nearest(5_000))],
    [
      "fetch",
      (name) =>
        repository.fetch(name, [{ id: "m", chunkIndex: 0 }], {
          content: true,
          snippetLength: SNIPPET_LENGTH,
        }),
    ],
    ["useEmbeddingVersion", (name) => repository.useEmbeddingVersion(name, version, 3)],
    ["reindexTexts", (name) => repository.reindexTexts(name, 10)],
  ];
  const leased = { id: "m", contentHash: new Uint8Array(32) };
  const nearest = (depth: number) => ({
    embedding: at(0),
    embeddingVersion: 1,
    depth,
    minSimilarity: undefined,
  });

  test.each(uses)("that do not exist are not found by %s, and not created", async (_name, use) => {
    const name = newDomainName();
    const before = await tables();
    await expect(use(name)).rejects.toMatchObject({ reason: "DOMAIN_NOT_FOUND", metadata: { domain: name } });
    expect(await repository.findDomain(name)).toBeUndefined();
    expect(await tables()).toEqual(before);
  });

  test.each(uses)(
    "deleted by another server are not found by %s, and can be recreated",
    async (_name, use) => {
      const name = newDomainName();
      await repository.createDomain(name, 3);
      await repository.insert(name, draft({ id: "m", content: "a" }));
      // Prepared statements and the domain are cached.
      await use(name).catch(() => undefined);
      await database.execute(`
      drop table "${name}_chunks";
      drop table "${name}_memories";
      delete from memory_domains where name = '${name}';
    `);
      await expect(use(name)).rejects.toMatchObject({
        reason: "DOMAIN_NOT_FOUND",
        metadata: { domain: name },
      });
      expect(await repository.findDomain(name)).toBeUndefined();

      await repository.createDomain(name, 3);
      expect(await repository.insert(name, draft({ id: "m", content: "b" }))).toMatchObject({ version: 1n });
      const [found] = await repository.fetch(name, [{ id: "m", chunkIndex: 0 }], {
        content: true,
        snippetLength: SNIPPET_LENGTH,
      });
      expect(found?.memory.content).toBe("b");
    },
  );
});
