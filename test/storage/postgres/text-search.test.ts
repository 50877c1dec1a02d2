import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { parseTextQuery } from "../../../src/memory/model/text-query.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { K1 } from "../../../src/storage/postgres/search/bm25.ts";
import { refreshTextStatistics } from "../../../src/storage/postgres/search/text-statistics.ts";
import { draft, microsecondsFromNow, newDomainName } from "../../support/drafts.ts";
import { requireDeclaredWrites } from "../../support/postgres/require-declared-writes.ts";
import { rankedEngines, useRanker } from "../../support/postgres/text-rankers.ts";

describe.each(await rankedEngines())("full-text search on $name with $ranker", ({ open, ranker }) => {
  let database: Database;
  let repository: Repository;
  let domain: string;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
    repository = createPostgresRepository(requireDeclaredWrites(database));
  });
  afterAll(() => database.close());
  beforeEach(async () => {
    domain = newDomainName();
    await repository.createDomain(domain, 3);
    await useRanker(database, domain, ranker);
  });

  const insert = (id: string, content: string) => repository.insert(domain, draft({ id, content }));
  const search = (query: string, options: { depth?: number; minScore?: number } = {}) =>
    repository.searchText(domain, {
      terms: parseTextQuery(query),
      depth: options.depth ?? 10,
      minScore: options.minScore,
    });
  const findWords = async (query: string, options?: { depth?: number; minScore?: number }) =>
    (await search(query, options)).candidates;
  const idsOf = async (query: string) => (await findWords(query)).map(({ id }) => id).sort();

  test("say what ranked them", async () => {
    expect(await search("apple")).toEqual({ candidates: [], exhausted: true, ranker });
  });

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
    ["what pads short contents in the index", "0.0.0"],
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
    // The index may read them in any order.
    expect(await findWords("words", { depth: 2 })).toHaveLength(2);
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

  test("report whether there are more with the minimum score", async () => {
    await insert("many", "apple apple apple apple");
    await insert("one", "apple and a good deal of other things that have nothing to do with it at all");
    const minScore = (await findWords("apple"))[0]?.score ?? 0;
    expect((await search("apple", { depth: 2 })).exhausted).toBe(false);
    // As many as asked for were found, and one of them is below already.
    expect((await search("apple", { depth: 2, minScore })).exhausted).toBe(true);
    expect((await search("apple", { depth: 1, minScore })).exhausted).toBe(false);
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
      draft({ id: "gone", content: "apple", expiry: { kind: "at", time: microsecondsFromNow(-3_600) } }),
    );
    expect(await idsOf("apple")).toEqual(["pending"]);
  });

  test.each([
    ["an error code", "request failed with E1234", "what is E1234?"],
    ["a constant", "curl says ERR_SSL_PROTOCOL", "ERR_SSL_PROTOCOL"],
    ["a part of a constant", "curl says ERR_SSL_PROTOCOL", "ssl"],
    ["an address", "the printer is 10.0.0.12", "10.0.0.12"],
    ["a number after a hyphen", "costs 5-10 euros", "10"],
    ["a host in a URL", "see https://docs.example.com/guide/a.html?x=1#top", "example.com"],
    ["a part of a path", "edit src/storage/rank.ts first", "rank.ts"],
    ["a type parameter", "returns List<Integer> there", "integer"],
    ["a handle", "mail bob.miller@example.org", "miller"],
    ["a version", "needs node v22.18.0", "22.18.0"],
    ["a date", "due on 2026-03-01", "2026-03-01"],
    ["a name with accents", "José Müller came", "jose muller"],
    ["a name without them", "Jose Muller came", "José Müller"],
    ["accents of their own", "cafe\u0301 au lait", "caf\u00e9"],
    ["full-width letters", "ＡＢＣ-123 is the key", "ABC-123"],
    ["dots in an abbreviation", "born in the U.S.A. then", "USA"],
    ["curly quotes", "she said “perhaps” twice", "perhaps"],
    ["Chinese in a sentence", "我的猫喜欢吃鱼。", "喜欢"],
    ["one Chinese character", "我的猫喜欢吃鱼。", "猫"],
    ["Japanese", "東京タワーに行きました", "東京"],
    ["Korean", "서울에서 만났습니다", "서울"],
    ["Arabic", "اجتماع في القاهرة", "القاهرة"],
    ["Hebrew", "פגישה בתל אביב", "אביב"],
    ["Hindi", "हम कल दिल्ली में मिले", "दिल्ली"],
    ["Greek", "συνάντηση στην Αθήνα", "Αθήνα"],
  ])("with %s are found", async (_name, content, query) => {
    await insert("m", content);
    await insert("other", "an unrelated remark");
    expect(await idsOf(query)).toEqual(["m"]);
  });

  test("with the very identifier come before those with parts of it", async () => {
    await insert("parts", "1.0.0.10 and 0.1.10.0 and 10.1.0.0 and 10.0.1.0");
    await insert("exact", "the printer that everybody uses has the address 10.0.0.1 since yesterday");
    expect((await findWords("10.0.0.1"))[0]?.id).toBe("exact");
  });

  test.each([
    ['"quick fox"', ["together"]],
    ['the "quick fox" dog', ["together"]],
    ['"fox quick"', []],
    ["“quick fox”", ["together"]],
    ['fox "quick', ["apart", "other", "together"]],
    ["fox -quick", ["other"]],
    ["fox -quickly", ["other"]],
    ['fox -"quick fox"', ["apart", "other"]],
    ["fox -the", ["apart", "other", "together"]],
    ["fox - quick", ["apart", "other", "together"]],
    ["fox--quick", ["apart", "other", "together"]],
    ["-quick", []],
    ['"the" fox', ["apart", "other", "together"]],
    ['fox "quick fox" "brown fox"', []],
  ])("obey the operators of %s", async (query, ids) => {
    await insert("together", "the quick fox");
    await insert("apart", "a fox is quick");
    await insert("other", "a brown dog and a fox");
    expect(await idsOf(query)).toEqual(ids);
  });

  test("with a phrase fill their limit", async () => {
    await database.query({
      text: `insert into "${domain}_memories" (id, content, metadata)
        select 'm' || lpad(i::text, 4, '0'), case when i % 20 = 0 then 'red apple' else 'apple red apple apple' end, '{}'
        from generate_series(1, 2000) as i`,
    });
    const { candidates, exhausted } = await search('"red apple" -"apple red"', { depth: 60 });
    expect(candidates).toHaveLength(60);
    expect(candidates.every(({ id }) => Number(id.slice(1)) % 20 === 0)).toBe(true);
    expect(exhausted).toBe(false);
    expect((await search('"red apple" -"apple red"', { depth: 200 })).exhausted).toBe(true);
  });

  test.each([
    ["a tenth", 10],
    ["a hundredth", 100],
    ["a thousandth", 1_000],
  ])("that pass a filter of %s are all found, and nothing else", async (_name, share) => {
    await database.query(
      {
        text: `insert into "${domain}_memories" (id, content, metadata)
          select 'm' || i, case when (i / $1::integer) % 2 = 0 then 'apple' else 'pear' end || repeat(' filler' || i % 7, i % 5),
            jsonb_build_object('source', case when i % $1::integer = 0 then 'wanted' else 'other' end)
          from generate_series(1, 4000) as i`,
      },
      [share],
    );
    await database.execute(`vacuum (analyze) "${domain}_memories"`);
    // Every second memory that passes has the word.
    const all = 2_000 / share;
    const filter = { kind: "sources", sources: ["wanted"] } as const;
    const find = async (depth: number) =>
      await repository.searchText(domain, {
        terms: parseTextQuery("apple"),
        depth,
        minScore: undefined,
        filter,
      });
    const ids = (await find(1_000)).candidates.map(({ id }) => Number(id.slice(1)));
    expect(ids.sort((a, b) => a - b)).toEqual(Array.from({ length: all }, (_, i) => (i + 1) * 2 * share));
    expect((await find(2)).candidates).toHaveLength(2);
  });

  /** So many different words that none of the tests asks for. */
  const otherWords = (count: number) => Array.from({ length: count }, (_, i) => `other${i}`).join(" ");

  test("are ranked by rare words before frequent ones, and by short contents before long ones", async () => {
    for (let i = 0; i < 20; i++) await insert(`f${i}`, `frequent ${otherWords(40)}`);
    await insert("rare", `rare ${otherWords(40)}`);
    await insert("short", `frequent ${otherWords(25)}`);
    const ids = (await findWords("frequent rare", { depth: 30 })).map(({ id }) => id);
    expect(ids.slice(0, 2)).toEqual(["rare", "short"]);
    expect(ids).toHaveLength(22);
  });

  test("are worth no more in contents of fewer than 20 words for these being few", async () => {
    await insert("a", `apple ${otherWords(15)}`);
    await insert("b", "apple");
    await insert("c", `apple ${otherWords(19)}`);
    await insert("d", `apple ${otherWords(20)}`);
    const [a, b, c, d, ...more] = await findWords("apple");
    expect([a?.id, b?.id, c?.id, d?.id, more]).toEqual(["a", "b", "c", "d", []]);
    expect(b?.score).toBeCloseTo(a?.score ?? 0, 5);
    expect(c?.score).toBeCloseTo(a?.score ?? 0, 5);
    expect(d?.score).toBeLessThan((a?.score ?? 0) - 0.001);
  });

  test("count each time that they occur, less and less", async () => {
    const occurrences = [1, 2, 3, 20, 100, 250];
    for (const n of occurrences) await insert(`n${n}`, "zebra ".repeat(n) + otherWords(30));
    const scores = new Map((await findWords("zebra")).map(({ id, score }) => [id, score]));
    const once = scores.get("n1") ?? 0;
    const ratios = occurrences.map((n) => (scores.get(`n${n}`) ?? 0) / once);
    if (ranker === "bm25_sql") {
      // All have the same different words, so that length does not matter: n (K1 + 1) / (n + K1).
      for (const [index, n] of occurrences.entries()) {
        expect(ratios[index]).toBeCloseTo((n * (K1 + 1)) / (n + K1), 6);
      }
    } else expect(scores.size).toBe(occurrences.length);
  });

  test("that are changed or deleted are no longer found by their former words", async () => {
    await insert("changed", "apple");
    await insert("deleted", "apple");
    await repository.change(domain, "changed", () => draft({ id: "changed", content: "pear" }));
    await database.query({ text: `delete from "${domain}_memories" where id = 'deleted'` });
    expect(await idsOf("apple")).toEqual([]);
    expect(await idsOf("pear")).toEqual(["changed"]);
    await database.execute(`vacuum "${domain}_memories"`);
    expect(await idsOf("apple pear")).toEqual(["changed"]);
  });

  test.each([
    ["words", () => Array.from({ length: 130_000 }, (_, i) => `w${i.toString(36)}`).join(" ")],
    ["one word", () => "a".repeat(1_000_000)],
    ["long words", () => Array.from({ length: 500 }, (_, i) => `${i}`.padEnd(2_000, "x")).join(" ")],
    ["punctuation", () => "needle ".concat("-./_:".repeat(200_000))],
    ["identifiers", () => "a/b_c:1.2 ".repeat(100_000)],
    ["one identifier", () => "a/".repeat(500_000)],
    ["dotted letters", () => "a.".repeat(500_000)],
    ["Chinese", () => "机器学习很有趣".repeat(45_000)],
    ["combining marks", () => "e\u0301".repeat(300_000)],
    ["emoji", () => "👩‍👩‍👧".repeat(50_000)],
  ])(
    "with a megabyte of %s can be stored, and are found by their beginning",
    async (_name, content) => {
      await insert("long", `needle ${content()}`);
      expect(await idsOf("needle")).toEqual(["long"]);
    },
    60_000,
  );

  test("are found or not by any query, which is never an error", async () => {
    await insert("m", "the quick fox, ERR_SSL_PROTOCOL and 机器 学习 'o''brien'");
    const piece = fc.oneof(
      fc.string({ unit: "binary", maxLength: 8 }),
      fc.constantFrom(
        "fox",
        "quick",
        "the",
        '"',
        "“",
        "”",
        "-",
        '-"',
        "''",
        "|",
        "& ! :*",
        "<->",
        "(",
        ")",
        "\\",
      ),
      fc.constantFrom(
        " ",
        "\t",
        "\n",
        "\u0001",
        "\u202e",
        "\u200d",
        "\ufeff",
        "🎉",
        "機",
        "ABC_1",
        "1.5",
        "%_",
        "$1",
      ),
    );
    const text = fc
      .array(piece, { maxLength: 12 })
      .map((pieces) => pieces.join("").replaceAll("\0", ""))
      .filter((query) => query.isWellFormed());
    await fc.assert(
      fc.asyncProperty(text, async (query) => {
        const found = await findWords(query);
        expect(found.every(({ id, score }) => id === "m" && score > 0)).toBe(true);
      }),
      { numRuns: 300 },
    );
  }, 60_000);

  test.each([
    ["operators", '" -"'.repeat(2_000)],
    ["phrases", '"quick fox" '.repeat(680)],
    ["exclusions", "-a ".repeat(2_700)],
    ["different words", Array.from({ length: 1_500 }, (_, i) => `w${i}`).join(" ")],
  ])("are found or not by 8 KiB of %s", async (_name, query) => {
    await insert("m", "the quick fox");
    expect((await findWords(query)).length).toBeLessThanOrEqual(1);
  });
});

describe.each((await rankedEngines()).filter(({ ranker }) => ranker === "bm25_sql"))(
  "a large domain ranked in SQL on $name",
  ({ open, ranker }) => {
    test("is ranked by its statistics nearly as without them", async () => {
      const database = await open();
      try {
        const repository = createPostgresRepository(requireDeclaredWrites(database));
        const domain = newDomainName();
        await repository.createDomain(domain, 3);
        await useRanker(database, domain, ranker);
        // Zipf's law, roughly: w1 in all memories, w2 in half of them ...
        await database.query({
          text: `insert into "${domain}_memories" (id, content, metadata)
            select 'm' || i, string_agg('w' || w, ' ') filter (where (i * 7919 + w * 104729) % w = 0) || repeat(' x', i % 17), '{}'
            from generate_series(1, 9000) as i, generate_series(1, 60) as w group by i`,
        });
        const find = (query: string, depth: number) =>
          repository.searchText(domain, { terms: parseTextQuery(query), depth, minScore: undefined });
        const queries = ["w60 w59 w2", "w50 w1", "w3 w40 w55 w58", "w1 w2"];
        const before = await Promise.all(queries.map((query) => find(query, 10)));
        expect(await refreshTextStatistics(database)).toEqual([domain]);
        expect(await refreshTextStatistics(database)).toEqual([]);
        for (const [index, query] of queries.entries()) {
          const { candidates, exhausted } = await find(query, 10);
          const best = before[index]?.candidates ?? [];
          expect(candidates).toHaveLength(10);
          expect(exhausted).toBe(false);
          // If many match equally well, any of them may be returned, so the test compares scores.
          expect(candidates[9]?.score).toBeCloseTo(best[9]?.score ?? 0, 1);
        }
        // More than the statistics' budget allows to rank at first.
        expect((await find("w1 w60", 9_000)).candidates).toHaveLength(9_000);
        expect((await find("w1 w60", 9_001)).exhausted).toBe(true);
      } finally {
        await database.close();
      }
    }, 60_000);
  },
);
