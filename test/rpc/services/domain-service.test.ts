import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  type CreateDomainRequestSchema,
  Domain_IndexState as IndexState,
  type UpdateDomainRequestSchema,
} from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { StoreOutcome } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { parseTextQuery } from "../../../src/memory/model/text-query.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { draft, newDomainName } from "../../support/drafts.ts";
import { createDomainServer, type DomainServer } from "../../support/in-process/domain-service.ts";
import { createServiceClient, errorOf } from "../../support/in-process/service.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

type CreateRequest = MessageInitShape<typeof CreateDomainRequestSchema>;
type UpdateRequest = MessageInitShape<typeof UpdateDomainRequestSchema>;

describe.each(databaseEngines())("DomainService on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let server: DomainServer;
  let client: DomainServer["client"];
  let memories: ReturnType<typeof createServiceClient>;
  let name: string;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
  });
  afterAll(() => database.close());
  beforeEach(() => {
    useCases = createUseCases(database);
    server = createDomainServer(useCases);
    ({ client } = server);
    memories = createServiceClient(useCases);
    name = newDomainName();
  });

  const readFigures = async () => {
    const { domain } = await createDomainServer(useCases).client.getDomain({ name });
    if (domain === undefined) throw new Error("no domain");
    return domain;
  };
  const find = async (query: string) =>
    (
      await useCases.repository.searchText(name, {
        terms: parseTextQuery(query),
        depth: 100,
        minScore: undefined,
      })
    ).candidates.map(({ id }) => id);

  describe("CreateDomain", () => {
    test("answers with the domain, every field of it", async () => {
      const { domain, created } = await client.createDomain({
        name,
        description: "Über Äpfel",
        textSearchConfig: "german",
        deduplicateContent: true,
      });
      expect(created).toBe(true);
      expect(domain).toMatchObject({
        name,
        description: "Über Äpfel",
        textSearchConfig: "german",
        deduplicateContent: true,
        embeddingVersion: { model: "scripted:latest", dimensions: 3, chunker: "paragraphs/1" },
        memoryCount: 0n,
        pendingCount: 0n,
        failedCount: 0n,
        indexState: IndexState.READY,
      });
      expect(domain?.embeddingVersion?.version).toBeGreaterThan(0);
      expect(domain?.sizeBytes).toBeGreaterThan(0n);
      expect(domain?.lastWriteTime).toBeUndefined();
      for (const time of [domain?.createTime, domain?.countsAsOf]) {
        expect(Math.abs((time ? timestampDate(time).getTime() : 0) - Date.now())).toBeLessThan(60_000);
      }
    });

    test("takes the server's defaults for what is not sent", async () => {
      const { domain } = await client.createDomain({ name });
      expect(domain).toMatchObject({
        description: "",
        textSearchConfig: "english",
        deduplicateContent: false,
      });
    });

    test("may be repeated, whatever the description", async () => {
      const first = await client.createDomain({ name, description: "one", textSearchConfig: "simple" });
      const again = await client.createDomain({ name, description: "two", textSearchConfig: "simple" });
      expect(again).toMatchObject({ created: false, domain: { description: "one" } });
      expect(again.domain?.createTime).toEqual(first.domain?.createTime);
    });

    test("by fifty at once creates one", async () => {
      const answers = await Promise.all(Array.from({ length: 50 }, () => client.createDomain({ name })));
      expect(answers.filter(({ created }) => created)).toHaveLength(1);
    });

    test.each<[CreateRequest, string]>([
      [{ textSearchConfig: "german" }, "text_search_config"],
      [{ deduplicateContent: true }, "deduplicate_content"],
      [{ textSearchConfig: "simple", deduplicateContent: true }, "text_search_config,deduplicate_content"],
    ])("reports the fields in which an existing domain differs from %j", async (request, fields) => {
      await client.createDomain({ name });
      expect(await errorOf(client.createDomain({ ...request, name }))).toMatchObject({
        code: Code.AlreadyExists,
        reason: "DOMAIN_ALREADY_EXISTS",
        metadata: { domain: name, fields },
      });
    });

    test("is refused beyond the limit, as is Store, until there is room again", async () => {
      const maxDomains = (await useCases.repository.listDomains()).length + 1;
      const limited = createDomainServer(useCases, { maxDomains });
      const limitedUseCases = createUseCases(database, { maxDomains });
      await limited.client.createDomain({ name });
      const refusal = {
        code: Code.ResourceExhausted,
        reason: "DOMAIN_LIMIT_REACHED",
        metadata: { max_domains: String(maxDomains) },
      };
      expect(await errorOf(limited.client.createDomain({ name: newDomainName() }))).toMatchObject(refusal);
      expect(await errorOf(createServiceClient(limitedUseCases).store({ content: "a" }))).toMatchObject(
        refusal,
      );
      // What exists is not one more.
      expect((await limited.client.createDomain({ name })).created).toBe(false);
      await limited.client.deleteDomain({ name, confirmName: name });
      expect((await createServiceClient(limitedUseCases).store({ content: "a" })).outcome).toBe(
        StoreOutcome.CREATED,
      );
    });

    test("of fifty first stores at once keeps the limit", async () => {
      const maxDomains = (await useCases.repository.listDomains()).length + 3;
      const limited = createServiceClient(createUseCases(database, { maxDomains }));
      const results = await Promise.allSettled(
        Array.from({ length: 50 }, () => limited.store({ domain: newDomainName(), content: "a @0" })),
      );
      expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
      expect(await useCases.repository.listDomains()).toHaveLength(maxDomains);
    });

    test.each<[string, CreateRequest, string, string | RegExp]>([
      ["no name", { name: "" }, "name", "must not be empty"],
      ["a bad name", { name: "A" }, "name", /^must be a lower-case letter/],
      ["a long name", { name: "a".repeat(41) }, "name", /^must be a lower-case letter/],
      [
        "a long description",
        { description: "x".repeat(1_025) },
        "description",
        "must have at most 1024 characters, has 1025",
      ],
      ["NUL", { description: "a\0b" }, "description", "must not contain the NUL character"],
      [
        "an unknown configuration",
        { textSearchConfig: "klingon" },
        "text_search_config",
        /english, .*simple/,
      ],
      [
        "SQL",
        { textSearchConfig: "english'::regconfig; --" },
        "text_search_config",
        /^must be a text search/,
      ],
      ["NUL in the configuration", { textSearchConfig: "a\0" }, "text_search_config", /NUL/],
      ["no dimensions", { dimensions: 0 }, "dimensions", "must be from 1 to 2000, got 0"],
      ["too many dimensions", { dimensions: 2_001 }, "dimensions", "must be from 1 to 2000, got 2001"],
      ["a long model name", { embeddingModel: "m".repeat(257) }, "embedding_model", /^must have at most 256/],
    ])("refuses %s", async (_, request, field, description) => {
      const error = await errorOf(client.createDomain({ name, ...request }));
      expect(error).toMatchObject({ code: Code.InvalidArgument, reason: "INVALID_ARGUMENT" });
      expect(error.violations).toEqual([
        {
          field,
          description: typeof description === "string" ? description : expect.stringMatching(description),
        },
      ]);
      expect(await useCases.repository.readDomain(name)).toBeUndefined();
    });
  });

  describe("GetDomain", () => {
    test("counts ready, pending and failed memories, without expired ones", async () => {
      await client.createDomain({ name });
      const version = (await useCases.repository.readDomain(name))?.embeddingVersion ?? 0;
      const vector = Float32Array.of(1, 0, 0);
      const ready = (embeddingVersion: number) => ({
        version: embeddingVersion,
        chunks: [{ start: 0, end: 1, vector }],
      });
      const insert = async (id: string, fields = {}) =>
        await useCases.repository.insert(name, draft({ id, ...fields }));
      await insert("ready", { embedding: ready(version) });
      await insert("older", { embedding: ready(version + 1_000) });
      await insert("pending");
      const failed = await insert("failed", { content: "fails" });
      const [hash] = await database.query<{ content_hash: Uint8Array }>({
        text: `select content_hash from "${name}_memories" where id = 'failed'`,
      });
      await useCases.repository.failEmbedding(
        name,
        { id: "failed", contentHash: hash?.content_hash ?? new Uint8Array() },
        "x",
      );
      await insert("expired", { expiry: { kind: "after", ttl: 1n } });
      await insert("lives", { embedding: ready(version), expiry: { kind: "after", ttl: 3_600_000_000n } });
      const figures = await readFigures();
      expect(figures).toMatchObject({ memoryCount: 5n, pendingCount: 2n, failedCount: 1n });
      expect(failed).toBeDefined();
      const lives = await useCases.repository.read(name, "lives");
      const last = figures.lastWriteTime;
      expect((last?.seconds ?? 0n) * 1_000_000n + BigInt((last?.nanos ?? 0) / 1_000)).toBe(lives?.updateTime);
    });

    test("remembers the figures for a moment, and counts once for all who ask", async () => {
      let counts = 0;
      const counting = createUseCases(database, {
        wrap: (repository) => ({
          ...repository,
          measureDomain: (domain) => {
            counts++;
            return repository.measureDomain(domain);
          },
        }),
      });
      const counted = createDomainServer(counting).client;
      await counted.createDomain({ name });
      await useCases.repository.insert(name, draft());
      const answers = await Promise.all(Array.from({ length: 20 }, () => counted.getDomain({ name })));
      expect(counts).toBe(1);
      for (const { domain } of answers) expect(domain).toEqual(answers[0]?.domain);
    });

    test("takes the empty name for the default domain", async () => {
      await useCases.store();
      expect((await client.getDomain({})).domain).toMatchObject({ name: useCases.domain, memoryCount: 1n });
    });

    test("finds nothing where nothing is", async () => {
      expect(await errorOf(client.getDomain({ name }))).toMatchObject({
        code: Code.NotFound,
        reason: "DOMAIN_NOT_FOUND",
        metadata: { domain: name },
      });
      expect(await errorOf(client.getDomain({ name: "A" }))).toMatchObject({ code: Code.InvalidArgument });
    });

    test("reports an index that is missing or invalid", async () => {
      await client.createDomain({ name });
      const index = `${name}_memories_created_idx`;
      await database.query(
        { text: "update pg_index set indisvalid = false where indexrelid = to_regclass($1)" },
        [index],
      );
      expect((await readFigures()).indexState).toBe(IndexState.DEGRADED);
      await database.execute(`drop index ${index}`);
      expect((await readFigures()).indexState).toBe(IndexState.DEGRADED);
      await database.query({ text: "select create_domain_memories_table($1)" }, [name]);
      expect((await readFigures()).indexState).toBe(IndexState.READY);
    });
  });

  describe("ListDomains", () => {
    test("lists all by name, page by page, each once", async () => {
      const created = Array.from({ length: 7 }, () => newDomainName());
      for (const one of [...created, "p-1", "p_1", "p1"]) await client.createDomain({ name: one });
      const all = (await useCases.repository.listDomains()).map((domain) => domain.name).sort();
      for (const pageSize of [1, 3, all.length, 1_000]) {
        const listed: string[] = [];
        let pageToken = "";
        do {
          const page = await client.listDomains({ pageSize, pageToken });
          expect(page.domains.length).toBeLessThanOrEqual(pageSize);
          listed.push(...page.domains.map((domain) => domain.name));
          pageToken = page.nextPageToken;
        } while (pageToken !== "");
        expect(listed).toEqual(all);
      }
      const [domain] = (await client.listDomains({})).domains;
      expect(domain).toEqual((await client.getDomain({ name: domain?.name ?? "" })).domain);
    });

    test.each([0, -1, 1_001])("refuses the page size %d", async (pageSize) => {
      expect(await errorOf(client.listDomains({ pageSize }))).toMatchObject({
        code: Code.InvalidArgument,
        violations: [{ field: "page_size", description: `must be from 1 to 1000, got ${pageSize}` }],
      });
    });

    test("refuses a token that it did not make", async () => {
      await client.createDomain({ name });
      const { nextPageToken } = await client.listDomains({ pageSize: 1 });
      for (const pageToken of ["x", `${nextPageToken}A`, nextPageToken.slice(0, -4)]) {
        expect(await errorOf(client.listDomains({ pageToken }))).toMatchObject({
          code: Code.InvalidArgument,
          reason: "INVALID_PAGE_TOKEN",
        });
      }
    });
  });

  describe("UpdateDomain", () => {
    const update = async (domain: NonNullable<UpdateRequest["domain"]>, ...paths: string[]) =>
      await client.updateDomain({ domain, updateMask: { paths } });

    test("changes the description, and what is not in the mask stays", async () => {
      await client.createDomain({ name, description: "one", textSearchConfig: "simple" });
      const { domain } = await update(
        { name, description: "two", textSearchConfig: "german", deduplicateContent: true },
        "description",
      );
      expect(domain).toMatchObject({
        description: "two",
        textSearchConfig: "simple",
        deduplicateContent: false,
        indexState: IndexState.READY,
      });
      expect((await update({ name }, "description")).domain?.description).toBe("");
    });

    test("finds every memory with the old and the new configuration while the full-text index is rebuilt", async () => {
      await client.createDomain({ name, textSearchConfig: "simple" });
      for (let i = 0; i < 50; i++)
        await useCases.repository.insert(name, draft({ id: `m${i}`, content: `houses ${i}` }));
      expect(await find("houses")).toHaveLength(50);
      expect(await find("house")).toHaveLength(0);

      const { domain } = await update({ name, textSearchConfig: "english" }, "text_search_config");
      expect(domain).toMatchObject({ textSearchConfig: "english", indexState: IndexState.BUILDING });
      expect(await find("houses")).toHaveLength(50);
      // What is written from now on is indexed by the new one.
      await useCases.repository.insert(name, draft({ id: "new", content: "a house" }));
      expect(await find("houses")).toHaveLength(51);

      expect(await useCases.repository.reindexTexts(name, 20)).toBe(true);
      expect(await find("houses")).toHaveLength(51);
      expect((await find("house")).length).toBeGreaterThan(20);
      while (await useCases.repository.reindexTexts(name, 20));
      expect(await find("house")).toHaveLength(51);
      const { version, updateTime, createTime } = (await useCases.repository.read(name, "m1")) ?? {};
      expect([version, updateTime]).toEqual([1n, createTime]);
      expect((await readFigures()).indexState).toBe(IndexState.READY);
    });

    test("works through it in the background, also what another server has left", async () => {
      await client.createDomain({ name, textSearchConfig: "simple" });
      for (let i = 0; i < 30; i++)
        await useCases.repository.insert(name, draft({ id: `m${i}`, content: `houses ${i}` }));
      await update({ name, textSearchConfig: "english" }, "text_search_config");
      const reindexer = server.startReindexer();
      try {
        while ((await useCases.repository.listReindexing()).includes(name));
        expect(await find("house")).toHaveLength(30);
        await update({ name, textSearchConfig: "simple" }, "text_search_config");
        while ((await useCases.repository.listReindexing()).includes(name));
        expect([await find("house"), (await find("houses")).length]).toEqual([[], 30]);
      } finally {
        await reindexer.close();
      }
    });

    test("changed again on the way indexes everything by the last one", async () => {
      await client.createDomain({ name, textSearchConfig: "simple" });
      for (let i = 0; i < 30; i++)
        await useCases.repository.insert(name, draft({ id: `m${i}`, content: `houses ${i}` }));
      await update({ name, textSearchConfig: "english" }, "text_search_config");
      await useCases.repository.reindexTexts(name, 10);
      await update({ name, textSearchConfig: "german" }, "text_search_config");
      expect(await find("houses")).toHaveLength(30);
      await useCases.repository.reindexTexts(name, 10);
      await update({ name, textSearchConfig: "simple" }, "text_search_config");
      expect(await find("houses")).toHaveLength(30);
      while (await useCases.repository.reindexTexts(name, 7));
      const vectors = await database.query({
        text: `select from "${name}_memories" where text_vector is distinct from memory_text_vector('simple', content)`,
      });
      expect(vectors).toEqual([]);
    });

    test("to the configuration that it has does nothing", async () => {
      await client.createDomain({ name });
      const { domain } = await update({ name }, "text_search_config");
      expect(domain).toMatchObject({ textSearchConfig: "english", indexState: IndexState.READY });
    });

    test("does not make a domain", async () => {
      expect(await errorOf(update({ name }, "description"))).toMatchObject({ reason: "DOMAIN_NOT_FOUND" });
      expect(await useCases.repository.readDomain(name)).toBeUndefined();
    });

    test.each<[string, UpdateRequest, string, string | RegExp]>([
      ["no domain", { updateMask: { paths: ["description"] } }, "domain", "must be set"],
      ["no mask", { domain: {} }, "update_mask", "must not be empty"],
      [
        "unknown paths",
        { domain: {}, updateMask: { paths: ["description", "name"] } },
        "update_mask",
        'must have no other paths than description, text_search_config, has "name"',
      ],
      [
        "a long description",
        { domain: { description: "x".repeat(1_025) }, updateMask: { paths: ["description"] } },
        "domain.description",
        "must have at most 1024 characters, has 1025",
      ],
      [
        "an unknown configuration",
        { domain: { textSearchConfig: "klingon" }, updateMask: { paths: ["text_search_config"] } },
        "domain.text_search_config",
        /^must be a text search configuration of the database: /,
      ],
      [
        "a bad name",
        { domain: { name: "A" }, updateMask: { paths: ["description"] } },
        "domain.name",
        /^must be a lower-case letter/,
      ],
    ])("refuses %s", async (_, request, field, description) => {
      const error = await errorOf(client.updateDomain(request));
      expect(error.code).toBe(Code.InvalidArgument);
      expect(error.violations).toEqual([
        {
          field,
          description: typeof description === "string" ? description : expect.stringMatching(description),
        },
      ]);
    });
  });

  describe("DeleteDomain", () => {
    test("deletes it with all its memories and returns their number", async () => {
      await client.createDomain({ name });
      for (let i = 0; i < 3; i++) await useCases.repository.insert(name, draft());
      await useCases.repository.insert(name, draft({ expiry: { kind: "after", ttl: 1n } }));
      expect(await client.deleteDomain({ name, confirmName: name })).toMatchObject({ deletedMemories: 3n });
      const tables = await database.query({
        text: `select from pg_class where relname like '${name}%'`,
      });
      expect(tables).toEqual([]);
      expect(await errorOf(client.getDomain({ name }))).toMatchObject({ reason: "DOMAIN_NOT_FOUND" });
      expect(await errorOf(client.deleteDomain({ name, confirmName: name }))).toMatchObject({
        code: Code.NotFound,
        reason: "DOMAIN_NOT_FOUND",
      });
    });

    test("of the default domain brings it back empty", async () => {
      await useCases.store({ id: "m", content: "old @0" });
      const { domain } = useCases;
      expect(await client.deleteDomain({ name: domain, confirmName: domain })).toMatchObject({
        deletedMemories: 1n,
      });
      expect((await client.getDomain({})).domain).toMatchObject({
        memoryCount: 0n,
        embeddingVersion: { model: "scripted:latest" },
      });
      expect(await useCases.idsOf({ query: "old @0" })).toEqual([]);
      expect((await memories.store({ id: "m", content: "new @0" })).outcome).toBe(StoreOutcome.CREATED);
    });

    test.each([
      [{ name: "", confirmName: "" }, "name", "must not be empty"],
      [{ name: "a", confirmName: "" }, "confirm_name", 'must repeat the name "a"'],
      [{ name: "a", confirmName: "A" }, "confirm_name", 'must repeat the name "a"'],
      [{ name: "A", confirmName: "A" }, "name", expect.stringMatching(/^must be a lower-case/)],
    ])("refuses %j", async (request, field, description) => {
      await client.createDomain({ name: "a" });
      expect(await errorOf(client.deleteDomain(request))).toMatchObject({
        code: Code.InvalidArgument,
        violations: [{ field, description }],
      });
      expect(await useCases.repository.readDomain("a")).toBeDefined();
    });
  });
});
