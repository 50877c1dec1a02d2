import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import type { SearchHit } from "../../../src/memory/search/read-hits.ts";
import type { DegradedReason, SearchCommand } from "../../../src/memory/search/search-command.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { draft, embedding, newDomainName } from "../../support/drafts.ts";
import { createScriptedEmbedder, scriptedSpace } from "../../support/in-process/scripted-embedder.ts";
import {
  createUseCases,
  searchCommand,
  type UseCaseOptions,
  type UseCases,
} from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

describe.each(databaseEngines())("Search on $name", ({ open }) => {
  let database: Database;
  let opened: UseCases[] = [];

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
  });
  afterAll(() => database.close());
  afterEach(async () => {
    for (const useCases of opened) await useCases.close();
    opened = [];
  });
  const start = (options?: UseCaseOptions) => {
    const useCases = createUseCases(database, options);
    opened.push(useCases);
    return useCases;
  };
  /** Memories by their ids, each with its content. */
  const startWith = async (contents: Readonly<Record<string, string>>, options?: UseCaseOptions) => {
    const useCases = start(options);
    for (const [id, content] of Object.entries(contents)) await useCases.store({ id, content });
    return useCases;
  };
  const callOf = (signal = new AbortController().signal) => ({ signal, remainingMs: undefined });

  const fruit = { near: "pear @10", both: "apple @20", words: "an apple a day @170", far: "nothing @90" };

  describe("finds", () => {
    test("with both legs, fused", async () => {
      const useCases = await startWith(fruit);
      const { hits, info } = await useCases.find({ query: "apple @0" });
      expect(hits.map(({ id }) => id)).toEqual(["both", "words", "near", "far"]);
      expect(hits[0]).toMatchObject({ semanticRank: 2, textRank: 1, chunkIndex: 0 });
      // The best of both would be 1.
      expect(hits[0]?.score).toBeGreaterThan(0.9);
      expect(hits[0]?.score).toBeLessThan(1);
      expect(hits[2]).toMatchObject({ semanticRank: 1, textRank: undefined, textScore: undefined });
      expect(hits[2]?.similarity).toBeCloseTo(Math.cos(Math.PI / 18), 5);
      expect(info).toEqual({
        modeUsed: "hybrid",
        degraded: undefined,
        approximate: false,
        limitFilled: true,
        textRanker: expect.stringMatching(/^bm25_/),
        embeddingVersion: (await useCases.repository.findDomain(useCases.domain))?.embeddingVersion,
        mergedByRank: false,
      });
    });

    test("with the semantic leg alone", async () => {
      const useCases = await startWith(fruit);
      const { hits, info } = await useCases.find({ query: "apple @0", mode: "semantic" });
      expect(hits.map(({ id }) => id)).toEqual(["near", "both", "far", "words"]);
      expect(hits.every(({ textScore, textRank }) => textScore === undefined && textRank === undefined)).toBe(
        true,
      );
      expect(hits.map(({ score, similarity }) => score === similarity)).toEqual([true, true, true, true]);
      expect(info).toMatchObject({ modeUsed: "semantic", textRanker: undefined, degraded: undefined });
    });

    test("with the full-text leg alone, without calling the embedder", async () => {
      const useCases = await startWith(fruit);
      const asked = useCases.embedder.calls.length;
      const { hits, info } = await useCases.find({ query: "apples", mode: "text" });
      expect(hits.map(({ id }) => id)).toEqual(["both", "words"]);
      expect(hits[0]).toMatchObject({ textRank: 1, similarity: undefined, chunkIndex: undefined });
      expect(hits[0]?.score).toBe(hits[0]?.textScore);
      expect(info).toMatchObject({
        modeUsed: "text",
        degraded: undefined,
        textRanker: expect.stringMatching(/^bm25_/),
        embeddingVersion: undefined,
        mergedByRank: false,
      });
      expect(useCases.embedder.calls).toHaveLength(asked);
    });

    test("nothing where nothing fits", async () => {
      const useCases = await startWith(fruit);
      const { hits, info } = await useCases.find({ query: "banana", mode: "text" });
      expect(hits).toEqual([]);
      expect(info.limitFilled).toBe(true);
    });

    test("nothing above the least similarity or score, but leaves what the other leg finds", async () => {
      const useCases = await startWith(fruit);
      const near = await useCases.find({ query: "apple @0", minSimilarity: 0.98 });
      expect(near.hits.map(({ id, similarity }) => [id, similarity === undefined])).toEqual(
        expect.arrayContaining([
          ["near", false],
          ["both", true],
          ["words", true],
        ]),
      );
      expect(near.hits).toHaveLength(3);
      const words = await useCases.find({ query: "apple @0", minTextScore: 1_000 });
      expect(words.hits.map(({ id }) => id)).toEqual(["near", "both", "far", "words"]);
      expect(words.hits.every(({ textScore }) => textScore === undefined)).toBe(true);
      expect(await useCases.idsOf({ query: "apple @0", mode: "semantic", minSimilarity: 0.98 })).toEqual([
        "near",
      ]);
      expect(await useCases.idsOf({ query: "apple @0", mode: "text", minTextScore: 1_000 })).toEqual([]);
    });

    test("memories with a pending embedding in the full-text leg", async () => {
      const useCases = await startWith(fruit);
      useCases.embedder.leave();
      await useCases.store({ id: "pending", content: "apple @0" });
      useCases.embedder.arrive();
      const { hits } = await useCases.find({ query: "apple @0" });
      expect(hits.find(({ id }) => id === "pending")).toMatchObject({ similarity: undefined, textRank: 1 });
    });
  });

  test("without limits is the beginning of a search with a larger one, up to 100", async () => {
    const useCases = await startWith({ first: "apple @0" });
    const { embeddingVersion = 0 } = (await useCases.repository.findDomain(useCases.domain)) ?? {};
    for (let i = 0; i < 250; i++) {
      const content = `${i % 3 === 0 ? "apple " : ""}${i % 5 === 0 ? "pear " : ""}${i} ${"word ".repeat(i % 7)}`;
      const made = draft({ id: `m${i}`, content, embedding: embedding(embeddingVersion, (i * 37) % 180) });
      await useCases.repository.insert(useCases.domain, made);
    }
    for (const mode of ["hybrid", "semantic", "text"] as const) {
      const all = await useCases.idsOf({ query: "apple pear @0", mode, limit: 100 });
      expect(all).toHaveLength(100);
      for (const limit of [1, 2, 5, 10, 33, 99]) {
        expect(await useCases.idsOf({ query: "apple pear @0", mode, limit })).toEqual(all.slice(0, limit));
      }
      // Deeper ones find all there is.
      const deep = await useCases.find({ query: "apple pear @0", mode, limit: 1_000 });
      expect(deep.info).toMatchObject({ approximate: false, limitFilled: true });
      if (mode !== "text") expect(deep.hits).toHaveLength(251);
    }
  });

  describe("explains", () => {
    const ranking = {
      fusion: { textWeight: 0.55, semanticWeight: 0.45, k: undefined },
      boost: { halfLife: undefined, importanceWeight: 0 },
      diversity: 0,
    };

    test("what it did, when asked", async () => {
      const useCases = await startWith(fruit);
      expect((await useCases.find({ query: "apple @0" })).info.explanation).toBeUndefined();
      const { info } = await useCases.find({ query: "The apples -pear day's @0", explain: true, limit: 1 });
      expect(info.explanation).toEqual({
        ranking,
        semanticScan: "index",
        semanticCandidates: 4,
        textCandidates: 2,
        queryTerms: ["0", "appl", "day"],
        embedMs: expect.any(Number),
        rankMs: expect.any(Number),
      });
      expect(info.explanation?.rankMs).toBeGreaterThan(0);
    });

    test("an exact search with a filter", async () => {
      const useCases = await startWith(fruit);
      const filter = { kind: "ids", ids: ["near", "words"] } as const;
      const { info } = await useCases.find({ query: "apple @0", explain: true, filter });
      expect(info.explanation).toMatchObject({
        semanticScan: "exact",
        semanticCandidates: 2,
        textCandidates: 1,
      });
    });

    test("what was left out", async () => {
      const useCases = await startWith(fruit);
      const words = await useCases.find({ query: "apple", explain: true, mode: "text" });
      expect(words.info.explanation).toMatchObject({
        semanticScan: undefined,
        semanticCandidates: 0,
        textCandidates: 2,
        queryTerms: ["appl"],
      });
      const meaning = await useCases.find({ query: "apple @0", explain: true, mode: "semantic" });
      expect(meaning.info.explanation).toMatchObject({
        semanticCandidates: 4,
        textCandidates: 0,
        queryTerms: [],
      });
    });

    test("how long it waited for the embedder", async () => {
      const useCases = await startWith(fruit, { embedBudgetMs: 20 });
      useCases.embedder.hold();
      const { info } = await useCases.find({ query: "apple @0", explain: true });
      expect(info.explanation?.embedMs).toBeGreaterThanOrEqual(15);
    });
  });

  describe("without the embedder", () => {
    const away: readonly [string, DegradedReason, (useCases: UseCases) => void | Promise<void>][] = [
      ["is unavailable", "embedder_unavailable", ({ embedder }) => embedder.leave()],
      [
        "lacks the model",
        "embedder_unavailable",
        ({ embedder }) => {
          embedder.failing = () => "model-missing";
        },
      ],
      [
        "takes the query for too long",
        "query_not_embeddable",
        ({ embedder }) => {
          embedder.failing = () => "too-long";
        },
      ],
      [
        "makes nonsense of the query",
        "query_not_embeddable",
        ({ embedder }) => {
          embedder.failing = () => "rejected";
        },
      ],
      [
        "has another model than the domain",
        "embedding_version_mismatch",
        ({ embedder }) => embedder.arrive({ ...scriptedSpace, digest: "other" }),
      ],
    ];

    test.each(away)("that %s, hybrid search answers from words: %s", async (_name, degraded, prepare) => {
      const useCases = await startWith(fruit);
      await prepare(useCases);
      const { hits, info } = await useCases.find({ query: "apple @0" });
      expect(hits.map(({ id }) => id)).toEqual(["both", "words"]);
      expect(info).toEqual({
        modeUsed: "text",
        degraded,
        approximate: false,
        limitFilled: true,
        textRanker: expect.stringMatching(/^bm25_/),
        embeddingVersion: undefined,
        mergedByRank: false,
      });
    });

    test.each(away)(
      "that %s, semantic search answers from words if allowed: %s",
      async (_name, degraded, prepare) => {
        const useCases = await startWith(fruit);
        await prepare(useCases);
        const { hits, info } = await useCases.find({ query: "apple @0", mode: "semantic" });
        expect(hits.map(({ id }) => id)).toEqual(["both", "words"]);
        expect(info).toMatchObject({ modeUsed: "text", degraded });
      },
    );

    test.each(["hybrid", "semantic"] as const)("%s search without fallback is refused", async (mode) => {
      for (const [, degraded, prepare] of away) {
        const useCases = await startWith(fruit);
        await prepare(useCases);
        const refused = useCases.find({ query: "apple @0", mode, allowFallback: false });
        await expect(refused).rejects.toMatchObject(
          degraded === "query_not_embeddable"
            ? { reason: "INVALID_ARGUMENT", violations: [{ field: "query" }], retryAfterMs: undefined }
            : { reason: "EMBEDDER_UNAVAILABLE", retryAfterMs: 2_000 },
        );
      }
    });

    test("a domain without any embedding says so", async () => {
      const useCases = start({ embedder: createScriptedEmbedder({ known: false }) });
      await useCases.store({ id: "m", content: "apple @0" });
      useCases.embedder.arrive();
      const { hits, info } = await useCases.find({ query: "apple @0" });
      expect(hits.map(({ id }) => id)).toEqual(["m"]);
      expect(info).toMatchObject({ modeUsed: "text", degraded: "no_embeddings" });
    });

    test("that is slow, search waits no longer than its budget", async () => {
      const useCases = await startWith(fruit, { embedBudgetMs: 5 });
      while ((await useCases.read("far"))?.embedding.state !== "ready") await useCases.contents.current();
      useCases.embedder.hold();
      const { info } = await useCases.find({ query: "apple @0" });
      expect(info).toMatchObject({ modeUsed: "text", degraded: "embedder_unavailable" });
    });

    test("that is slow, search waits no longer than half of the caller's deadline", async () => {
      const useCases = await startWith(fruit);
      useCases.embedder.hold();
      const { info } = await useCases.find({ query: "apple @0" }, { remainingMs: 4 });
      expect(info).toMatchObject({ modeUsed: "text", degraded: "embedder_unavailable" });
    });

    test("text search is not degraded", async () => {
      const useCases = await startWith(fruit);
      useCases.embedder.leave();
      const { info } = await useCases.find({ query: "apple", mode: "text", allowFallback: false });
      expect(info).toMatchObject({ modeUsed: "text", degraded: undefined });
    });
  });

  describe("shows", () => {
    test("the place that matched, with offsets in code points", async () => {
      const embedder = createScriptedEmbedder({ maxChunkLength: 40 });
      const parts = ["😀😀 one @0", "two 👩‍👩‍👧 @60", "three @120"].map((part) => part.padEnd(38, "."));
      const content = parts.join("\n\n");
      const useCases = await startWith({ m: content }, { embedder });
      for (const [i, angle] of [0, 60, 120].entries()) {
        const { hits } = await useCases.find({ query: `x @${angle}`, mode: "semantic" });
        const { snippet, chunkIndex } = hits[0] ?? {};
        expect(chunkIndex).toBe(i);
        expect([...content].slice(snippet?.start, snippet?.end).join("")).toBe(snippet?.text);
        if (i > 0) expect(snippet?.text).toBe(`${parts[i]}${i < 2 ? "\n\n" : ""}`);
      }
    });

    test("the beginning where no place stands out, 300 characters at most", async () => {
      const content = `apple ${"😀".repeat(400)}`;
      const useCases = await startWith({ m: content });
      const { hits } = await useCases.find({ query: "apple", mode: "text" });
      const text = [...content].slice(0, 300).join("");
      expect(hits[0]).toMatchObject({ snippet: { text, start: 0, end: 300 }, preview: "" });
      expect(hits[0]?.memory.content).toBe(content);
    });

    test.each([true, false])("the place of the words in a long content (content: %s)", async (content) => {
      const embedder = createScriptedEmbedder({ maxChunkLength: 4_000 });
      const before = "😀 nothing of it ".repeat(600);
      const whole = `${before}the apples of Almaty ${before}`;
      const useCases = await startWith({ m: whole, other: "no fruit @3" }, { embedder });
      for (const mode of ["text", "hybrid"] as const) {
        const { hits } = await useCases.find({ query: "apple almaty @0", mode, content });
        const { snippet } = hits.find(({ id }) => id === "m") ?? {};
        expect(snippet?.text).toContain("the apples of Almaty");
        expect([...whole].slice(snippet?.start, snippet?.end).join("")).toBe(snippet?.text);
      }
    });

    test("a preview in place of the content, and the snippet with it", async () => {
      const content = `apple ${"😀".repeat(400)}`;
      const useCases = await startWith({ m: content });
      const { hits } = await useCases.find({ query: "apple", mode: "text", content: false });
      const text = [...content].slice(0, 300).join("");
      expect(hits[0]).toMatchObject({ preview: text, snippet: { text, start: 0, end: 300 } });
      expect(hits[0]?.memory.content).toBe("");
    });
  });

  describe("of large answers", () => {
    const big = "x".repeat(1024 * 1024 - 10);
    const startBig = async () => {
      const useCases = start();
      useCases.embedder.leave();
      for (let i = 0; i < 5; i++) await useCases.store({ id: `m${i}`, content: `apple ${big}` });
      return useCases;
    };

    test("is refused, naming what would help", async () => {
      const useCases = await startBig();
      const search = (fields: Partial<SearchCommand>) =>
        useCases.find({ query: "apple", mode: "text", ...fields });
      await expect(search({})).rejects.toMatchObject({
        reason: "RESPONSE_TOO_LARGE",
        message: expect.stringContaining("view"),
        metadata: { field: "view" },
      });
      expect((await search({ limit: 3 })).hits).toHaveLength(3);
      expect((await search({ content: false })).hits).toHaveLength(5);
    });

    test("sends them one by one as a stream", async () => {
      const useCases = await startBig();
      const command = { ...searchCommand(useCases.domain), query: "apple", mode: "text" } as const;
      const { hits, progress } = await useCases.search.stream(command, callOf());
      let length = 0;
      for await (const { memory } of hits) length += memory.content.length;
      expect(length).toBe(5 * (big.length + 6));
      expect(progress).toEqual({ sent: 5, skipped: 0 });
    });
  });

  describe("of memories that are deleted after they were ranked", () => {
    /** Deletes memories as soon as their first page is to be read. */
    const startDeleting = async (contents: Readonly<Record<string, string>>, ids: readonly string[]) => {
      let armed = false;
      const useCases = await startWith(contents, {
        wrap: (repository): Repository => ({
          ...repository,
          async fetch(domain, ...rest) {
            if (armed) {
              const text = `delete from "${domain}_memories" where id = any($1::text[])`;
              await database.query({ text }, [ids]);
            }
            return await repository.fetch(domain, ...rest);
          },
        }),
      });
      armed = true;
      return useCases;
    };
    const five = Object.fromEntries(Array.from({ length: 5 }, (_, i) => [`m${i}`, `apple @${i * 10}`]));

    test("fills up with the next", async () => {
      const useCases = await startDeleting(five, ["m0", "m2"]);
      const { hits, info } = await useCases.find({ query: "x @0", mode: "semantic", limit: 3 });
      expect(hits.map(({ id }) => id)).toEqual(["m1", "m3", "m4"]);
      expect(info.limitFilled).toBe(true);
    });

    test("says so if that was all that was ranked", async () => {
      const useCases = await startDeleting(five, ["m0", "m2"]);
      const { hits, info } = await useCases.find({ query: "x @0", mode: "semantic", limit: 5 });
      expect(hits.map(({ id }) => id)).toEqual(["m1", "m3", "m4"]);
      // There is no other memory in the domain.
      expect(info.limitFilled).toBe(true);
    });

    test("counts them in a stream", async () => {
      const useCases = await startDeleting(five, ["m0", "m2"]);
      const command = {
        ...searchCommand(useCases.domain),
        query: "x @0",
        mode: "semantic",
        limit: 3,
      } as const;
      const { hits, progress } = await useCases.search.stream(command, callOf());
      const sent: string[] = [];
      for await (const { id } of hits) sent.push(id);
      expect(sent).toEqual(["m1", "m3", "m4"]);
      expect(progress).toEqual({ sent: 3, skipped: 2 });
    });

    test("does not claim to be filled if the candidates ran out", async () => {
      const useCases = await startWith({ first: "pear @0" });
      await database.query({
        text: `insert into "${useCases.domain}_memories" (id, content, metadata)
          select 'm' || lpad(i::text, 4, '0'), 'apple', '{}' from generate_series(1, 300) as i`,
      });
      const deleting: Repository = {
        ...useCases.repository,
        async fetch(domain, ...rest) {
          await database.query({ text: `delete from "${domain}_memories" where id < 'm0098' and id > 'm'` });
          return await useCases.repository.fetch(domain, ...rest);
        },
      };
      const other = start({ wrap: () => deleting });
      const { hits, info } = await other.find({ domains: [useCases.domain], query: "apple", mode: "text" });
      expect(hits.map(({ id }) => id)).toEqual(["m0098", "m0099", "m0100"]);
      expect(info.limitFilled).toBe(false);
    });
  });

  describe("as a stream", () => {
    const startMany = async (count: number, wrap?: (repository: Repository) => Repository) => {
      const useCases = await startWith({ first: "pear @0" }, wrap === undefined ? {} : { wrap });
      await database.query({
        text: `insert into "${useCases.domain}_memories" (id, content, metadata)
          select 'm' || lpad(i::text, 5, '0'), 'apple', '{}' from generate_series(1, ${count}) as i`,
      });
      return useCases;
    };

    test("sends up to its limit, best first, as Search would", async () => {
      const useCases = await startMany(1_500);
      const command = {
        ...searchCommand(useCases.domain),
        query: "apple",
        mode: "text",
        limit: 1_200,
      } as const;
      const { hits, info, progress } = await useCases.search.stream(command, callOf());
      const sent: string[] = [];
      for await (const { id } of hits) sent.push(id);
      expect(sent).toEqual(Array.from({ length: 1_200 }, (_, i) => `m${String(i + 1).padStart(5, "0")}`));
      expect(info).toMatchObject({ modeUsed: "text", limitFilled: true });
      expect(progress).toEqual({ sent: 1_200, skipped: 0 });
      expect(await useCases.idsOf({ ...command, limit: 100 })).toEqual(sent.slice(0, 100));
    });

    test("reads no further than its consumer", async () => {
      let pages = 0;
      const useCases = await startMany(500, (repository) => ({
        ...repository,
        async fetch(...parameters) {
          pages++;
          return await repository.fetch(...parameters);
        },
      }));
      const command = {
        ...searchCommand(useCases.domain),
        query: "apple",
        mode: "text",
        limit: 500,
      } as const;
      const { hits } = await useCases.search.stream(command, callOf());
      expect(pages).toBe(0);
      await hits.next();
      expect(pages).toBe(1);
      await hits.return(undefined);
      expect(pages).toBe(1);
    });

    test("ends when its caller leaves", async () => {
      const useCases = await startMany(500);
      const leaving = new AbortController();
      const command = {
        ...searchCommand(useCases.domain),
        query: "apple",
        mode: "text",
        limit: 500,
      } as const;
      const { hits } = await useCases.search.stream(command, callOf(leaving.signal));
      const sent: SearchHit[] = [];
      const reading = (async () => {
        for await (const hit of hits) {
          sent.push(hit);
          leaving.abort(new Error("left"));
        }
      })();
      await expect(reading).rejects.toThrow("left");
      expect(sent.length).toBe(1);
    });
  });

  test.each(["search", "stream"] as const)(
    "of an unknown domain by %s fails and makes nothing",
    async (method) => {
      const useCases = start();
      const domain = newDomainName();
      const asked = useCases.search[method](searchCommand(domain), callOf());
      await expect(asked).rejects.toMatchObject({
        reason: "DOMAIN_NOT_FOUND",
        message: `domain "${domain}" does not exist; call ListDomains to see existing domains`,
        metadata: { domain },
      });
      expect(await useCases.repository.findDomain(domain)).toBeUndefined();
      expect(useCases.embedder.calls).toEqual([]);
    },
  );

  test("of a caller who left fails with its reason", async () => {
    const useCases = await startWith(fruit);
    const signal = AbortSignal.abort(new Error("left"));
    for (const mode of ["hybrid", "semantic", "text"] as const) {
      await expect(useCases.find({ mode }, { signal })).rejects.toThrow("left");
    }
  });
});
