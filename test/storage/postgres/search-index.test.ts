import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import type { SemanticQuery } from "../../../src/memory/model/search-index.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { at, draft, embedding, newDomainName } from "../../support/drafts.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";
import { requireDeclaredWrites } from "../../support/postgres/require-declared-writes.ts";

describe.each(databaseEngines())("memories searched on $name", ({ open }) => {
  let database: Database;
  let repository: Repository;
  let domain: string;
  let version: number;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
    repository = createPostgresRepository(requireDeclaredWrites(database));
    const space = { model: "m", digest: "", dimensions: 3, profile: "p/1" };
    version = await repository.registerEmbeddingVersion(space, 1);
  });
  afterAll(() => database.close());
  beforeEach(async () => {
    domain = newDomainName();
    await repository.createDomain(domain, 3);
    await repository.useEmbeddingVersion(domain, version, 3);
  });

  const insert = (id: string, content: string, ...degrees: readonly number[]) =>
    repository.insert(
      domain,
      draft({ id, content, embedding: degrees.length > 0 ? embedding(version, ...degrees) : undefined }),
    );
  const findNear = (degrees: number, query: Partial<SemanticQuery> = {}) =>
    repository.searchSemantic(domain, {
      embedding: at(degrees),
      embeddingVersion: version,
      depth: 10,
      minSimilarity: undefined,
      ...query,
    });
  const idsNear = async (degrees: number, query?: Partial<SemanticQuery>) =>
    (await findNear(degrees, query)).candidates.map(({ id }) => id);

  test("have the importance of their own domain, although the longest names have the same prefix", async () => {
    const names = ["a", "b"].map((end) => "x".repeat(39) + end);
    for (const [index, name] of names.entries()) {
      await repository.createDomain(name, 3);
      await repository.insert(name, draft({ id: "m", importance: index }));
    }
    for (const [index, name] of names.entries()) {
      expect(await repository.readAgeAndImportance(name, ["m"])).toMatchObject([{ importance: index }]);
    }
  });

  describe("by semantic search", () => {
    test("are ordered by cosine similarity", async () => {
      await insert("far", "x", 120);
      await insert("near", "x", 10);
      await insert("opposite", "x", 180);
      await insert("exact", "x", 0);
      const { candidates, exhausted, approximate } = await findNear(0);
      expect(candidates.map(({ id }) => id)).toEqual(["exact", "near", "far", "opposite"]);
      for (const [i, cosine] of [1, Math.cos(Math.PI / 18), -0.5, -1].entries()) {
        expect(candidates[i]?.score).toBeCloseTo(cosine, 5);
      }
      expect({ exhausted, approximate }).toEqual({ exhausted: true, approximate: false });
    });

    test("are ordered by id if they are equally near", async () => {
      for (const id of ["c", "a", "d", "b"]) await insert(id, "x", 30);
      expect(await idsNear(0)).toEqual(["a", "b", "c", "d"]);
    });

    test("are found once each, with their best chunk", async () => {
      await insert("first", "x", 5, 100, 170);
      await insert("middle", "x", 90, 2, 91, 92, 93);
      await insert("last", "x", 60, 61, 3, 4);
      const { candidates } = await findNear(0);
      expect(candidates.map(({ id, chunkIndex }) => [id, chunkIndex])).toEqual([
        ["middle", 1],
        ["last", 2],
        ["first", 0],
      ]);
    });

    test("below the minimum similarity are omitted", async () => {
      await insert("near", "x", 10);
      await insert("far", "x", 80, 70);
      expect(await idsNear(0, { minSimilarity: 0.9 })).toEqual(["near"]);
      expect(await idsNear(0, { minSimilarity: 0.3 })).toEqual(["near", "far"]);
      expect(await idsNear(0, { minSimilarity: -1 })).toEqual(["near", "far"]);
      expect((await findNear(0, { minSimilarity: 1, depth: 1 })).exhausted).toBe(true);
    });

    test("that are pending are not found", async () => {
      await insert("pending", "x");
      expect(await findNear(0)).toEqual({
        candidates: [],
        scan: "index",
        exhausted: true,
        approximate: false,
      });
    });

    test("report whether there are more", async () => {
      for (let i = 0; i < 6; i++) await insert(`m${i}`, "x", i * 10, i * 10 + 5);
      expect((await findNear(0, { depth: 3 })).exhausted).toBe(false);
      expect((await findNear(0, { depth: 3 })).candidates).toHaveLength(3);
      // Six memories and six further chunks: more rows than ten, and still everything.
      expect((await findNear(0, { depth: 10 })).exhausted).toBe(true);
    });

    describe("of a thousand or more", () => {
      const total = 1_300;

      beforeEach(async () => {
        await database.query(
          {
            text: `insert into "${domain}_memories"
                (id, content, metadata, embedding, embedding_state, embedding_version)
              select 'm' || lpad(i::text, 4, '0'), 'x', '{}', format('[%s,%s,0]', cos(i / 500.0), sin(i / 500.0))::vector,
                'ready', $1
              from generate_series(0, ${total - 1}) as i`,
          },
          [version],
        );
      });

      test.each([201, 300, 1_000])("the nearest %d are found", async (depth) => {
        const { candidates, exhausted, approximate } = await findNear(0, { depth });
        const found = new Set(candidates.slice(0, depth).map(({ id }) => id));
        const expected = Array.from({ length: depth }, (_, i) => `m${String(i).padStart(4, "0")}`);
        expect(candidates).toHaveLength(depth);
        expect(expected.filter((id) => found.has(id)).length).toBeGreaterThan(0.97 * depth);
        expect({ exhausted, approximate }).toEqual({ exhausted: false, approximate: false });
      });

      test.each([1_001, 2_600, 20_000])("all are found exactly at a depth of %d", async (depth) => {
        const { candidates, exhausted, approximate } = await findNear(0, { depth });
        const expected = Array.from(
          { length: Math.min(depth, total) },
          (_, i) => `m${String(i).padStart(4, "0")}`,
        );
        expect(candidates.map(({ id }) => id)).toEqual(expected);
        expect({ exhausted, approximate }).toEqual({ exhausted: depth > total, approximate: false });
      });

      test("those of another version or expired do not use up the depth", async () => {
        await database.query({
          text: `update "${domain}_memories" set embedding_version = embedding_version + 1 where id < 'm0500'`,
        });
        await database.query({
          text: `update "${domain}_memories" set expires_at = now() where id >= 'm0500' and id < 'm1000'`,
        });
        const { candidates } = await findNear(0, { depth: 200 });
        expect(candidates).toHaveLength(200);
        expect(candidates.every(({ id }) => id >= "m1000")).toBe(true);
      });
    });
  });
});
