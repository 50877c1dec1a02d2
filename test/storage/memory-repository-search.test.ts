import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../../src/storage/database/database.ts";
import type { MemoryRepository, SemanticQuery } from "../../src/storage/memory-repository.ts";
import { createPostgresMemoryRepository } from "../../src/storage/postgres/memory-repository.ts";
import { databaseEngines } from "../support/databases.ts";
import { at, draft, embedding, microsecondsFromNow, newDomainName } from "../support/drafts.ts";

describe.each(databaseEngines())("memories searched on $name", ({ open }) => {
  let database: Database;
  let repository: MemoryRepository;
  let domain: string;
  let version: number;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
    repository = createPostgresMemoryRepository(database);
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
  const findWords = async (query: string, options: { depth?: number; minScore?: number } = {}) =>
    await repository.searchText(domain, { query, depth: options.depth ?? 10, minScore: options.minScore });
  const idsOf = async (query: string) => (await findWords(query)).map(({ id }) => id).sort();

  describe("by meaning", () => {
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

    test("are ordered by id where they are equally near", async () => {
      for (const id of ["c", "a", "d", "b"]) await insert(id, "x", 30);
      expect(await idsNear(0)).toEqual(["a", "b", "c", "d"]);
    });

    test("come once each, with their best chunk", async () => {
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

    test("below the least similarity are left out", async () => {
      await insert("near", "x", 10);
      await insert("far", "x", 80, 70);
      expect(await idsNear(0, { minSimilarity: 0.9 })).toEqual(["near"]);
      expect(await idsNear(0, { minSimilarity: 0.3 })).toEqual(["near", "far"]);
      expect(await idsNear(0, { minSimilarity: -1 })).toEqual(["near", "far"]);
      expect((await findNear(0, { minSimilarity: 1, depth: 1 })).exhausted).toBe(true);
    });

    test("that are pending are not found", async () => {
      await insert("pending", "x");
      expect(await findNear(0)).toEqual({ candidates: [], exhausted: true, approximate: false });
    });

    test("tell whether there are more", async () => {
      for (let i = 0; i < 6; i++) await insert(`m${i}`, "x", i * 10, i * 10 + 5);
      expect((await findNear(0, { depth: 3 })).exhausted).toBe(false);
      expect((await findNear(0, { depth: 3 })).candidates).toHaveLength(3);
      // Six memories and six further chunks: more rows than ten, and still everything.
      expect((await findNear(0, { depth: 10 })).exhausted).toBe(true);
    });

    describe("of a thousand and more", () => {
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

  describe("by words", () => {
    test("have any of them, those with more of them first", async () => {
      await insert("both", "the quick fox");
      await insert("one", "a quick dog");
      await insert("other", "foxes are here");
      await insert("none", "nothing of it");
      const found = await findWords("quick foxes");
      expect(found[0]?.id).toBe("both");
      expect(found.map(({ id }) => id).sort()).toEqual(["both", "one", "other"]);
      expect(found.every(({ score, chunkIndex }) => score > 0 && chunkIndex === undefined)).toBe(true);
    });

    test("are found in natural questions", async () => {
      await insert("m", "Series A funding round completed");
      expect(await idsOf("What do we know about the funding strategy?")).toEqual(["m"]);
    });

    test.each([
      ["only stop words", "the of and"],
      ["only punctuation", "?!... --- ''' \\\\\\ \"\""],
      ["only emoji", "👩‍👩‍👧 🎉"],
      ["operators of tsquery", "& | ! <-> :* ()"],
      ["a control character", "\u0001"],
    ])("are not found by a query of %s, which is no error", async (_name, query) => {
      await insert("m", "the of and 👩‍👩‍👧 🎉");
      expect(await findWords(query)).toEqual([]);
    });

    test.each([
      ["a single quote", "o'brien", "it's o'brien's"],
      ["a double quote", 'say "hello"', 'hello "'],
      ["a backslash", "c:\\temp\\file", "c:\\temp\\file"],
      ["quotes and backslashes", "x'\\'\\\\' y", "y"],
      ["a URL", "see https://example.com/a'b?c=\\d", "https://example.com/a'b?c=\\d"],
      ["an e-mail address", "mail bob@example.com", "bob@example.com"],
      ["emoji beside a word", "🎉party🎉", "party"],
      ["operators", "cat & dog | !bird:*", "dog"],
      ["another script", "зелёные яблоки", "яблоки"],
      ["Chinese", "机器 学习", "学习"],
      ["a weight", "cat:A", "cat"],
      ["SQL", "'); drop table memory_domains; --", "drop table"],
    ])("with %s are found", async (_name, query, content) => {
      await insert("m", content);
      expect(await idsOf(query)).toEqual(["m"]);
    });

    test("are found by very long queries", async () => {
      await insert("m", "needle");
      const words = Array.from({ length: 5_000 }, (_, i) => `hay${i}`).join(" ");
      expect(await idsOf(`${words} needle`)).toEqual(["m"]);
      expect(await idsOf(`${"x".repeat(100_000)} needle`)).toEqual(["m"]);
      expect(await idsOf(`needle ${"'\\".repeat(50_000)}`)).toEqual(["m"]);
    });

    test("are ordered by id where they fit equally well, and cut at the depth", async () => {
      for (const id of ["c", "a", "d", "b"]) await insert(id, "same words");
      expect((await findWords("words")).map(({ id }) => id)).toEqual(["a", "b", "c", "d"]);
      expect((await findWords("words", { depth: 2 })).map(({ id }) => id)).toEqual(["a", "b"]);
    });

    test("below the least score are left out", async () => {
      await insert("many", "apple apple apple apple");
      await insert("one", "apple and a good deal of other things that have nothing to do with it at all");
      const [best, worst] = await findWords("apple");
      expect([best?.id, worst?.id]).toEqual(["many", "one"]);
      expect(await findWords("apple", { minScore: best?.score ?? 0 })).toEqual([best]);
      expect(await findWords("apple", { minScore: 0 })).toEqual([best, worst]);
      expect(await findWords("apple", { minScore: 1e300 })).toEqual([]);
    });

    test("beyond the usual depth are found", async () => {
      await database.query({
        text: `insert into "${domain}_memories" (id, content, metadata)
          select 'm' || i, 'apple', '{}' from generate_series(1, 1300) as i`,
      });
      expect(await findWords("apple", { depth: 300 })).toHaveLength(300);
      expect(await findWords("apple", { depth: 2_000 })).toHaveLength(1_300);
    });

    test("are found while their embedding is pending, and not when they have expired", async () => {
      await insert("pending", "apple");
      await repository.insert(
        domain,
        draft({ id: "gone", content: "apple", expiry: { kind: "at", time: microsecondsFromNow(-1) } }),
      );
      expect(await idsOf("apple")).toEqual(["pending"]);
    });
  });
});
