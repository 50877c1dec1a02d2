import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { parseTextQuery } from "../../../src/memory/model/text-query.ts";
import { SNIPPET_LENGTH } from "../../../src/memory/search/snippet.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { at, draft, embedding, microsecondsFromNow, newDomainName } from "../../support/drafts.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";
import { requireDeclaredWrites } from "../../support/postgres/require-declared-writes.ts";

describe.each(databaseEngines())("memories written on $name", ({ open }) => {
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

  const read = async (id: string, chunkIndex?: number) => {
    const [found] = await repository.fetch(domain, [{ id, chunkIndex }], {
      content: true,
      snippetLength: SNIPPET_LENGTH,
    });
    return found?.memory;
  };
  const countRows = async (table = "memories") =>
    (await database.query({ text: `select from "${domain}_${table}"` })).length;
  const findNear = async (degrees: number) =>
    (
      await repository.searchSemantic(domain, {
        embedding: at(degrees),
        embeddingVersion: version,
        depth: 10,
        minSimilarity: undefined,
      })
    ).candidates;
  const findWord = async (query: string) =>
    (await repository.searchText(domain, { terms: parseTextQuery(query), depth: 10, minScore: undefined }))
      .candidates;

  test("are returned as they were sent", async () => {
    const sent = draft({
      id: "A.b_c:d-1",
      content: "Ünïcödé 👩‍👩‍👧 \u{10ffff} \\ ' \" % \r\n\t",
      source: "https://example.com/?q='",
      importance: 0.1 + 0.2,
      tags: ["b", "a", "ä"],
      metadata: {
        "": "empty key",
        null: null,
        list: [1, -0.5, 1e308, 5e-324, true, [[]], {}],
        "a.b": { "ключ 🗝": "\u0001" },
        ["__proto__"]: { polluted: true },
        constructor: "c",
      },
      expiry: { kind: "at", time: microsecondsFromNow(3_600) + 7n },
      embedding: embedding(version, 0),
    });
    const stored = await repository.insert(domain, sent);
    const { leaseMs: _, chunkCount: __, ...fields } = sent;
    expect(stored).toEqual({
      ...fields,
      domain,
      version: 1n,
      chunkCount: 1,
      createTime: stored?.updateTime,
      updateTime: stored?.createTime,
      expireTime: sent.expiry.kind === "at" ? sent.expiry.time : undefined,
      embedding: { state: "ready", failureReason: "", version },
    });
    expect(await read(sent.id)).toEqual(stored);
    expect(Object.hasOwn(stored?.metadata ?? {}, "__proto__")).toBe(true);
  });

  test.each([
    ["no importance", { importance: undefined }],
    ["importance 0", { importance: 0 }],
    ["importance 1", { importance: 1 }],
    ["no tags", { tags: [] }],
    ["a tag with quotes", { tags: ['"', "\\", "{}", ","] }],
    ["a source that looks like SQL", { source: "'; drop table x; --" }],
  ])("keep %s", async (_name, fields) => {
    const stored = await repository.insert(domain, draft({ id: "m", ...fields }));
    expect(stored).toMatchObject(fields);
    expect(await read("m")).toEqual(stored);
  });

  test("change nothing if their id is taken", async () => {
    const first = await repository.insert(domain, draft({ id: "m", content: "first" }));
    const second = draft({ id: "m", content: "second", embedding: embedding(version, 0, 90) });
    expect(await repository.insert(domain, second)).toBeUndefined();
    expect(await read("m")).toEqual(first);
    expect(await countRows("chunks")).toBe(0);
  });

  test("are independent of a memory with the same id in another domain", async () => {
    const other = newDomainName();
    await repository.createDomain(other, 3);
    await repository.insert(other, draft({ id: "m", content: "theirs" }));
    await repository.insert(domain, draft({ id: "m", content: "ours" }));
    expect((await read("m"))?.content).toBe("ours");
  });

  test("of many chunks are written completely or not at all", async () => {
    // More chunks than one statement inserts.
    const degrees = Array.from({ length: 450 }, (_, i) => i / 10);
    const good = draft({ id: "good", embedding: embedding(version, ...degrees), chunkCount: 450 });
    expect(await repository.insert(domain, good)).toMatchObject({ chunkCount: 450 });
    expect(await countRows("chunks")).toBe(449);

    const chunks = embedding(version, ...degrees).chunks.slice();
    chunks[449] = { start: 4490, end: 4500, vector: Float32Array.of(1, 0) };
    const bad = draft({ id: "bad", embedding: { version, chunks }, chunkCount: 450 });
    await expect(repository.insert(domain, bad)).rejects.toThrow();
    expect(await read("bad")).toBeUndefined();
    expect(await countRows("chunks")).toBe(449);
  });

  test("are locked while the change is decided", async () => {
    const before = await repository.insert(domain, draft({ id: "m", embedding: embedding(version, 0, 90) }));
    const seen: unknown[] = [];
    const after = await repository.change(domain, "m", (current) => {
      seen.push(current);
      return draft({
        id: "m",
        content: "changed",
        source: "s",
        embedding: embedding(version, 45),
        leaseMs: 5,
      });
    });
    expect(seen).toEqual([before]);
    expect(after).toMatchObject({ content: "changed", source: "s", version: 2n, chunkCount: 1 });
    expect(after?.createTime).toBe(before?.createTime);
    // May be equal, because the clock of the embedded engine has millisecond resolution.
    expect((after?.updateTime ?? 0n) >= (before?.updateTime ?? 0n)).toBe(true);
    expect(await read("m")).toEqual(after);
    expect(await countRows("chunks")).toBe(0);
    expect((await findNear(90)).map(({ score }) => Math.round(score * 100))).toEqual([71]);
  });

  test("stay unchanged if the decision is to write nothing", async () => {
    const before = await repository.insert(domain, draft({ id: "m" }));
    expect(await repository.change(domain, "m", () => undefined)).toEqual(before);
    expect(await repository.change(domain, "none", () => undefined)).toBeUndefined();
    expect(await read("m")).toEqual(before);
  });

  test("stay unchanged if the decision throws", async () => {
    const before = await repository.insert(domain, draft({ id: "m" }));
    const refused = repository.change(domain, "m", () => {
      throw new RangeError("no");
    });
    await expect(refused).rejects.toThrow(RangeError);
    expect(await read("m")).toEqual(before);
  });

  test("are created by a change if they do not exist", async () => {
    const made = await repository.change(domain, "m", (current) => {
      expect(current).toBeUndefined();
      return draft({ id: "m", embedding: embedding(version, 0, 90) });
    });
    expect(made).toMatchObject({ id: "m", version: 1n });
    expect(made?.createTime).toBe(made?.updateTime);
    expect(await findNear(90)).toMatchObject([{ id: "m", chunkIndex: 1 }]);
  });

  test("keep embedding and chunks on request", async () => {
    await repository.insert(domain, draft({ id: "m", embedding: embedding(version, 0, 90), chunkCount: 2 }));
    const after = await repository.change(domain, "m", () =>
      draft({ id: "m", source: "new", embedding: "keep", chunkCount: 2 }),
    );
    expect(after).toMatchObject({ source: "new", version: 2n, embedding: { state: "ready", version } });
    expect(await findNear(90)).toMatchObject([{ id: "m", chunkIndex: 1 }]);
  });

  test("lose their embedding with their content, until it is recomputed", async () => {
    await repository.insert(domain, draft({ id: "m", content: "old", embedding: embedding(version, 0, 90) }));
    const after = await repository.change(domain, "m", () => draft({ id: "m", content: "new" }));
    expect(after?.embedding).toEqual({ state: "pending", failureReason: "", version: undefined });
    expect(await findNear(0)).toEqual([]);
    expect(await countRows("chunks")).toBe(0);
    expect(await findWord("old")).toEqual([]);
    expect(await findWord("new")).toMatchObject([{ id: "m" }]);
  });

  test("receive every one of fifty concurrent changes", async () => {
    await repository.insert(domain, draft({ id: "m", metadata: { n: 0 } }));
    await Promise.all(
      Array.from({ length: 50 }, () =>
        repository.change(domain, "m", (current) =>
          draft({ id: "m", metadata: { n: Number(current?.metadata.n) + 1 } }),
        ),
      ),
    );
    expect(await read("m")).toMatchObject({ version: 51n, metadata: { n: 50 } });
  });

  test("are inserted once by fifty concurrent calls", async () => {
    const made = await Promise.all(
      Array.from({ length: 50 }, (_, i) => repository.insert(domain, draft({ id: "m", content: `c${i}` }))),
    );
    const winners = made.filter((memory) => memory !== undefined);
    expect(winners).toHaveLength(1);
    expect(await read("m")).toEqual(winners[0]);
    expect(await countRows()).toBe(1);
  });

  test("are created once by fifty concurrent changes, and the others may retry", async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 50 }, () =>
        repository.change(domain, "m", (now) => (now ? undefined : draft({ id: "m" }))),
      ),
    );
    for (const result of results) {
      if (result.status === "rejected") expect(result.reason).toMatchObject({ reason: "CONFLICT" });
    }
    expect(results.some((result) => result.status === "fulfilled")).toBe(true);
    expect(await countRows()).toBe(1);
    expect(await read("m")).toMatchObject({ version: 1n });
  });

  test("that have expired are invisible everywhere, and their id is free", async () => {
    const gone = draft({
      id: "m",
      content: "apple",
      expiry: { kind: "at", time: microsecondsFromNow(-0.001) },
      embedding: embedding(version, 0, 90),
    });
    await repository.insert(domain, gone);
    expect(await read("m")).toBeUndefined();
    expect(await findNear(0)).toEqual([]);
    expect(await findNear(90)).toEqual([]);
    expect(await findWord("apple")).toEqual([]);
    expect(await repository.leasePending(domain, version + 1, 10, 0)).toEqual([]);
    const seen: unknown[] = [];
    await repository.change(domain, "m", (current) => void seen.push(current));
    expect(seen).toEqual([undefined]);

    const next = await repository.change(domain, "m", () => draft({ id: "m", content: "pear" }));
    expect(next).toMatchObject({ content: "pear", version: 1n });
    expect(await countRows("chunks")).toBe(0);
    expect(await countRows()).toBe(1);
  });

  test("with a ttl expire that long after they were stored", async () => {
    const ttl = 90_061_000_001n;
    const stored = await repository.insert(domain, draft({ id: "m", expiry: { kind: "after", ttl } }));
    expect(stored?.expiry).toEqual({ kind: "after", ttl });
    expect(stored?.expireTime).toBe((stored?.createTime ?? 0n) + ttl);

    const renewed = await repository.change(domain, "m", () =>
      draft({ id: "m", expiry: { kind: "after", ttl } }),
    );
    expect(renewed?.expireTime).toBe((renewed?.updateTime ?? 0n) + ttl);
    const unlimited = await repository.change(domain, "m", () => draft({ id: "m" }));
    expect(unlimited).toMatchObject({ expiry: { kind: "never" }, expireTime: undefined });
  });

  test("with the longest ttl keep every microsecond of it", async () => {
    const ttl = 3_153_600_000n * 1_000_000n - 1n;
    const stored = await repository.insert(domain, draft({ expiry: { kind: "after", ttl } }));
    expect(stored?.expiry).toEqual({ kind: "after", ttl });
    expect(stored?.expireTime).toBe((stored?.createTime ?? 0n) + ttl);
  });

  test("130 microseconds apart keep their times and their order", async () => {
    const start = microsecondsFromNow(1_000) + 13n;
    const ids = Array.from({ length: 1_000 }, (_, i) => `m${i}`);
    for (const [i, id] of ids.entries()) {
      const time = start + BigInt(i) * 130n;
      await repository.insert(domain, draft({ id, expiry: { kind: "at", time } }));
    }
    // The server sets create_time and update_time, so the test writes them directly.
    await database.query(
      {
        text: `update "${domain}_memories" set created_at = memory_time($1 + substr(id, 2)::bigint * 130),
          updated_at = memory_time($1 + substr(id, 2)::bigint * 130)`,
      },
      [start],
    );
    const hits = ids.map((id) => ({ id, chunkIndex: undefined }));
    const found = await repository.fetch(domain, hits, { content: false, snippetLength: SNIPPET_LENGTH });
    const expected = ids.map((_, i) => start + BigInt(i) * 130n);
    expect(found.map(({ memory }) => memory.expireTime)).toEqual(expected);
    expect(found.map(({ memory }) => memory.createTime)).toEqual(expected);
    expect(found.map(({ memory }) => memory.updateTime)).toEqual(expected);
    const ordered = await database.query<{ id: string }>({
      text: `select id from "${domain}_memories" order by created_at`,
    });
    expect(ordered.map(({ id }) => id)).toEqual(ids);
  });

  test("in every year keep every microsecond", async () => {
    const times: bigint[] = [0n, 1n, -1n, 999_999n, -999_999n, -1_000_001n];
    for (const year of [1, 1582, 1900, 1969, 1970, 1999, 2026, 2038, 2262, 5000, 9999]) {
      const date = new Date(0);
      date.setUTCFullYear(year, 11, 31);
      date.setUTCHours(23, 59, 59);
      for (const part of [0n, 1n, 499_999n, 500_000n, 999_999n])
        times.push(BigInt(date.getTime()) * 1_000n + part);
    }
    const rows = await database.query<{ given: bigint; back: bigint; text: string }>(
      {
        text: `select given, memory_microseconds(memory_time(given)) as back,
            to_char(memory_time(given), 'YYYY-MM-DD"T"HH24:MI:SS.US') as text
          from unnest($1::bigint[]) with ordinality as times (given, position) order by position`,
      },
      [times.map(String)],
    );
    expect(rows.map(({ back }) => back)).toEqual(times);
    const texts = times.map((time) => {
      const micros = ((time % 1_000_000n) + 1_000_000n) % 1_000_000n;
      const seconds = new Date(Number((time - micros) / 1_000n)).toISOString().slice(0, 19);
      return `${seconds}.${String(micros).padStart(6, "0")}`;
    });
    expect(rows.map(({ text }) => text)).toEqual(texts);
  });

  test("of the maximum length are stored, and found by their first words", async () => {
    // The text vector of so many different words would exceed the limit of PostgreSQL.
    let content = "beginning ";
    for (let i = 0; content.length < 1024 * 1024 - 16; i++) content += `w${i.toString(36)} `;
    await repository.insert(domain, draft({ id: "words", content }));
    expect((await read("words"))?.content).toBe(content);
    expect(await findWord("beginning")).toMatchObject([{ id: "words" }]);

    const one = "x".repeat(1024 * 1024);
    await repository.insert(domain, draft({ id: "one", content: one }));
    expect((await read("one"))?.content).toBe(one);
    const wide = "𝒳".repeat(256 * 1024);
    await repository.change(domain, "one", () => draft({ id: "one", content: wide }));
    expect((await read("one"))?.content).toBe(wide);
  });

  test("with the largest metadata and embedding fit their row", async () => {
    domain = newDomainName();
    await repository.createDomain(domain, 1_900);
    const vector = new Float32Array(1_900).fill(Math.sqrt(1 / 1_900));
    const big = draft({
      id: "i".repeat(50),
      content: Array.from({ length: 2_000 }, (_, i) => `word${i}`).join(" "),
      source: "s".repeat(256),
      metadata: Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`key${i}`, `value${i * 7919}`])),
      tags: Array.from({ length: 64 }, (_, i) => `${i}`.padEnd(64, "t")),
      embedding: { version, chunks: [{ start: 0, end: 10, vector }] },
    });
    expect(await repository.insert(domain, big)).toMatchObject({ metadata: big.metadata, tags: big.tags });
  });

  test("are fetched in the requested order, without deleted ones", async () => {
    for (const id of ["a", "b", "c"]) await repository.insert(domain, draft({ id, content: id }));
    const hits = ["c", "gone", "a", "b"].map((id) => ({ id, chunkIndex: undefined }));
    const found = await repository.fetch(domain, hits, { content: true, snippetLength: SNIPPET_LENGTH });
    expect(found.map(({ memory }) => memory.id)).toEqual(["c", "a", "b"]);
    expect(await repository.fetch(domain, [], { content: true, snippetLength: SNIPPET_LENGTH })).toEqual([]);
  });

  test("are fetched with the range that matched, in code points", async () => {
    const content = `${"😀".repeat(10)}${"é".repeat(10)}${"z".repeat(400)}`;
    const chunks = [
      { start: 0, end: 10, vector: at(0) },
      { start: 10, end: 20, vector: at(30) },
      { start: 20, end: 420, vector: at(60) },
    ];
    await repository.insert(
      domain,
      draft({ id: "m", content, embedding: { version, chunks }, chunkCount: 3 }),
    );
    const snippetOf = async (chunkIndex: number | undefined) => {
      const [found] = await repository.fetch(domain, [{ id: "m", chunkIndex }], {
        content: true,
        snippetLength: SNIPPET_LENGTH,
      });
      return found?.snippet;
    };
    expect(await snippetOf(1)).toEqual({ text: "é".repeat(10), start: 10, end: 20 });
    expect(await snippetOf(2)).toEqual({ text: "z".repeat(300), start: 20, end: 320 });
    const beginning = { text: [...content].slice(0, 300).join(""), start: 0, end: 300 };
    expect(await snippetOf(undefined)).toEqual(beginning);
    expect(await snippetOf(0)).toEqual(beginning);
    // The chunk may have been deleted since it was found.
    expect(await snippetOf(7)).toEqual(beginning);
  });

  test("are fetched without content and with its beginning", async () => {
    const content = "👍🏽".repeat(200);
    await repository.insert(domain, draft({ id: "m", content }));
    const [found] = await repository.fetch(domain, [{ id: "m", chunkIndex: undefined }], {
      content: false,
      snippetLength: SNIPPET_LENGTH,
    });
    expect(found?.memory.content).toBe("");
    expect(found?.preview).toBe([...content].slice(0, 300).join(""));
    const [full] = await repository.fetch(domain, [{ id: "m", chunkIndex: undefined }], {
      content: true,
      snippetLength: SNIPPET_LENGTH,
    });
    expect(full?.preview).toBe("");
  });

  test("written by other programs are read as far as possible", async () => {
    const insert = (id: string, metadata: string) =>
      database.query(
        { text: `insert into "${domain}_memories" (id, content, metadata) values ($1, 'x', $2::jsonb)` },
        [id, metadata],
      );
    await insert("odd", '{"source": 1, "importance": "high", "tags": ["a", 2], "own": true}');
    await insert("outside", '{"importance": 17}');
    await insert("none", "{}");
    expect(await read("odd")).toMatchObject({
      source: "",
      importance: undefined,
      tags: ["a"],
      metadata: { own: true },
      version: 1n,
      embedding: { state: "pending" },
    });
    expect(await read("outside")).toMatchObject({ importance: 17 });
    expect(await read("none")).toMatchObject({ source: "", importance: undefined, tags: [], metadata: {} });
  });

  test("of a caller who has left are not written", async () => {
    const left = AbortSignal.abort(new Error("left"));
    await expect(repository.insert(domain, draft({ id: "m" }), left)).rejects.toThrow();
    await expect(repository.change(domain, "m", () => draft({ id: "m" }), left)).rejects.toThrow();
    expect(await read("m")).toBeUndefined();
  });
});
