import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Filter } from "../../../src/memory/model/filter.ts";
import type { SemanticQuery } from "../../../src/memory/model/search-index.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { createDomainSizes, type DomainSize } from "../../../src/storage/postgres/domains/domain-size.ts";
import { findNearest, type Scan } from "../../../src/storage/postgres/search/find-nearest.ts";
import { estimateShare } from "../../../src/storage/postgres/search/sample-filter.ts";
import { searchSemantic } from "../../../src/storage/postgres/search/search-semantic.ts";
import { at, draft, embedding, newDomainName } from "../../support/drafts.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

const ROWS = 2_000;
const small: DomainSize = { memories: ROWS, chunks: ROWS };
/** What makes a search believe that it must not compare everything. */
const large: DomainSize = { memories: 1_000_000, chunks: 0 };

const inSlots = (lt: number): Filter => ({
  kind: "metadata",
  path: ["slot"],
  test: { kind: "range", range: { gte: undefined, gt: undefined, lte: undefined, lt } },
});
const tagged = (tag: string): Filter => ({ kind: "tags_any", tags: [tag] });

describe.each(databaseEngines())("the nearest of those that match on $name", ({ open }) => {
  let database: Database;
  let domain: string;
  let version: number;

  // Memory i lies at i / 2,000 of half a circle, its only further chunk a right angle further on.
  beforeAll(async () => {
    database = await open({ poolSize: 2 });
    const repository = createPostgresRepository(database);
    version = await repository.registerEmbeddingVersion(
      { model: "m", digest: "", dimensions: 3, profile: "p/1" },
      1,
    );
    domain = newDomainName();
    await repository.createDomain(domain, 3);
    await repository.useEmbeddingVersion(domain, version, 3);
    const point = (from: string) => `format('[%s,%s,0]', cos(${from}), sin(${from}))::vector`;
    await database.query(
      {
        text: `insert into "${domain}_memories"
            (id, content, metadata, embedding, embedding_state, embedding_version)
          select 'm' || lpad(i::text, 4, '0'), 'x',
            jsonb_build_object('slot', i * 7919 % 1000, 'tags', case when i >= 1900 then '["far"]' else '[]' end::jsonb),
            ${point("i * pi() / 2000")}, 'ready', $1
          from generate_series(0, ${ROWS - 1}) as i`,
      },
      [version],
    );
    await database.query(
      {
        text: `insert into "${domain}_chunks"
            (memory_id, chunk_index, start_offset, end_offset, embedding, embedding_version)
          select 'm' || lpad(i::text, 4, '0'), 1, 0, 1, ${point("i * pi() / 2000 + pi() / 2")}, $1
          from generate_series(0, ${ROWS - 1}) as i`,
      },
      [version],
    );
    await database.execute(`analyze "${domain}_memories"; analyze "${domain}_chunks"`);
  });
  afterAll(() => database.close());

  const query = (fields: Partial<SemanticQuery> = {}): SemanticQuery => ({
    embedding: at(0),
    embeddingVersion: version,
    depth: 10,
    minSimilarity: undefined,
    ...fields,
  });
  const exact: Scan = { kind: "exact", selective: false };
  const index: Scan = { kind: "index", efSearch: 200, maxTuples: 20_000 };
  const nearest = (scan: Scan, fields: Partial<SemanticQuery> = {}) =>
    findNearest(database, domain, query(fields), scan);
  const idsOf = ({ candidates }: { candidates: readonly { id: string }[] }) => candidates.map(({ id }) => id);
  const search = (size: DomainSize, fields: Partial<SemanticQuery> = {}) =>
    searchSemantic(database, domain, query(fields), async () => size, {});
  const idOf = (i: number) => `m${String(i).padStart(4, "0")}`;
  /** Ids of the memories of the slots, nearest to 0 degrees first: their own, their chunk's place counts too. */
  const expected = (slots: number, count: number) =>
    Array.from({ length: ROWS }, (_, i) => i)
      .filter((i) => (i * 7919) % 1000 < slots)
      .slice(0, count)
      .map(idOf);

  test.each([1, 10, 100, 500, 1_000])(
    "are the same by index and exactly, for %d slots of 1,000",
    async (slots) => {
      const wanted = expected(slots, 10);
      const filter = inSlots(slots);
      expect(idsOf(await nearest(exact, { filter }))).toEqual(wanted);
      expect(idsOf(await nearest(index, { filter }))).toEqual(wanted);
      expect(idsOf(await search(small, { filter }))).toEqual(wanted);
      expect(idsOf(await search(large, { filter }))).toEqual(wanted);
    },
  );

  test("have their chunks looked at, and only theirs", async () => {
    // The chunks of the last memories lie around 180 degrees and are nearest there.
    for (const scan of [index, exact]) {
      const { candidates } = await nearest(scan, { embedding: at(270), filter: inSlots(100) });
      expect(candidates[0]).toMatchObject({ id: expected(100, ROWS).at(-1), chunkIndex: 1 });
      expect(candidates).toHaveLength(10);
      const allowed = new Set(expected(100, ROWS));
      expect(candidates.filter(({ id }) => !allowed.has(id))).toEqual([]);
    }
  });

  test("are all found, though the index gives up before it comes to them", async () => {
    // Far away are both the memories and their chunks.
    const far = { embedding: at(60), filter: tagged("far") };
    const hurried: Scan = { kind: "index", efSearch: 10, maxTuples: 50 };
    const gaveUp = await database.transaction(async (transaction) => {
      // So small a table the planner would rather sort.
      await transaction.execute("set local enable_seqscan = off; set local enable_sort = off");
      return await findNearest(transaction, domain, query({ ...far, depth: 50 }), hurried);
    });
    expect(gaveUp.filled).toBe(false);
    expect(gaveUp.candidates.length).toBeLessThan(50);
    const answer = await search(large, { ...far, depth: 200 });
    expect(answer).toMatchObject({ exhausted: true, approximate: false });
    expect(answer.candidates).toHaveLength(100);
  });

  test("report whether there are more", async () => {
    const filter = inSlots(100);
    expect((await search(small, { filter, depth: 150 })).exhausted).toBe(false);
    expect((await search(small, { filter, depth: 300 })).exhausted).toBe(true);
    expect((await search(large, { filter, depth: 150 })).exhausted).toBe(false);
    expect((await search(large, { filter, depth: 300 })).exhausted).toBe(true);
    expect((await search(small, { filter, depth: 150, minSimilarity: 0.99 })).exhausted).toBe(true);
    // Unfiltered, a large domain may hold more than the index has looked at.
    expect((await search(large, { depth: 3_000 })).exhausted).toBe(false);
  });

  test("are not those that have expired", async () => {
    const repository = createPostgresRepository(database);
    const id = "expired";
    await repository.insert(domain, draft({ id, embedding: embedding(version, 0, 0), tags: ["late"] }));
    const filter: Filter = { kind: "any_of", filters: [tagged("late"), { kind: "ids", ids: [id] }] };
    expect(idsOf(await search(small, { filter }))).toEqual([id]);
    await database.query({
      text: `update "${domain}_memories" set expires_at = now() - interval '1 second' where id = 'expired'`,
    });
    for (const size of [small, large]) expect(idsOf(await search(size, { filter }))).toEqual([]);
    for (const scan of [index, exact]) {
      expect(
        idsOf(await nearest(scan, { filter: { kind: "none_of", filters: [tagged("far")] } })),
      ).not.toContain(id);
    }
  });

  test("leave the settings of the connection as they are", async () => {
    await database.transaction(async (transaction) => {
      const read = async () =>
        await transaction.query({ text: "select current_setting('hnsw.ef_search') as ef" });
      expect(await read()).toEqual([{ ef: "200" }]);
    });
    await search(large);
    await search(large);
    const after = await Promise.all(
      [0, 1, 2].map(() => database.query({ text: "select current_setting('hnsw.ef_search') as ef" })),
    );
    expect(after.flat()).toEqual([{ ef: "200" }, { ef: "200" }, { ef: "200" }]);
  });

  test("look deeper in a larger domain", async () => {
    const recorded: unknown[] = [];
    const recording: Database = new Proxy(database, {
      get: (target, property) =>
        property === "query"
          ? (...args: Parameters<Database["query"]>) => {
              recorded.push(args[1]?.slice(2));
              return target.query(...args);
            }
          : Reflect.get(target, property, target),
    });
    for (const memories of [100, 10_000, 100_000, 1_000_000]) {
      await searchSemantic(recording, domain, query(), async () => ({ memories, chunks: 0 }), {});
    }
    expect(recorded.map((parameters) => (parameters as string[])[0])).toEqual(["200", "200", "632", "1000"]);
  });

  test("are estimated by a sample", async () => {
    const shareOf = (filter: Filter) => estimateShare(database, domain, filter, 4_000);
    expect(await shareOf(inSlots(500))).toBeGreaterThan(0.3);
    expect(await shareOf(inSlots(500))).toBeLessThan(0.7);
    expect(await shareOf(inSlots(500))).toBe(await shareOf(inSlots(500)));
    expect(await shareOf(tagged("unused"))).toBe(0);
  });

  test("are of a domain whose size is known roughly", async () => {
    const { memories, chunks } = await createDomainSizes(database)(domain);
    for (const rows of [memories, chunks]) {
      expect(rows).toBeGreaterThan(ROWS * 0.9);
      expect(rows).toBeLessThan(ROWS * 1.2);
    }
  });
});
