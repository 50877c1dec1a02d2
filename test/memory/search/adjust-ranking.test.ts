import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { NO_BOOST } from "../../../src/memory/search/boost.ts";
import type { SearchCommand } from "../../../src/memory/search/search-command.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { at, newDomainName } from "../../support/drafts.ts";
import { createScriptedEmbedder } from "../../support/in-process/scripted-embedder.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

const DAY = 86_400_000_000n;

describe.each(databaseEngines())("Search with adjusted ranking on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let other: string;
  const asked: string[] = [];

  const recording = (repository: Repository): Repository => ({
    ...repository,
    readAgeAndImportance(...args) {
      asked.push("age");
      return repository.readAgeAndImportance(...args);
    },
    readHitEmbeddings(...args) {
      asked.push("embeddings");
      return repository.readHitEmbeddings(...args);
    },
  });

  beforeAll(async () => {
    database = await open({ poolSize: 4 });
    const embedder = createScriptedEmbedder({ maxChunkLength: 40 });
    useCases = createUseCases(database, { embedder, wrap: recording });
    other = newDomainName();
    const long = `${"first chunk @170".padEnd(38)}\n\n${"pear second chunk @3".padEnd(38)}`;
    await useCases.store({ id: "best", content: "pear @0" });
    await useCases.store({ id: "twin", content: long, importance: 0.2 });
    await useCases.store({ id: "other", content: "pear @50", importance: 1 });
    await useCases.store({ id: "opposite", content: "pear @178" });
    await useCases.store({ id: "foreign", content: "pear @20", domain: other, importance: 0.9 });
    const age = async (domain: string, id: string, days: number) =>
      await database.query(
        {
          text: `update "${domain}_memories" set updated_at = now() - make_interval(days => $1) where id = $2`,
        },
        [days, id],
      );
    await age(useCases.domain, "best", 2);
    await age(useCases.domain, "opposite", 900);
    await age(other, "foreign", 1);
  });
  afterAll(() => database.close());

  const find = async (fields: Partial<SearchCommand>) =>
    (await useCases.find({ query: "x @0", mode: "semantic", ...fields })).hits;
  const idsOf = async (fields: Partial<SearchCommand>) => (await find(fields)).map(({ id }) => id);

  test("reads nothing more unless asked to", async () => {
    asked.length = 0;
    expect(await idsOf({})).toEqual(["best", "twin", "other", "opposite"]);
    expect(asked).toEqual([]);
  });

  test("prefers the young by half-life, and tells the factor", async () => {
    const hits = await find({ boost: { ...NO_BOOST, halfLife: DAY } });
    expect(hits.map(({ id }) => id)).toEqual(["twin", "other", "best", "opposite"]);
    expect(hits[2]?.recency).toBeCloseTo(0.25, 3);
    expect(hits[2]?.score).toBeCloseTo(0.25, 3);
    expect(hits[3]).toMatchObject({ score: 0, importance: undefined });
  });

  test("prefers the important, in each domain by its own", async () => {
    const boost = { ...NO_BOOST, importanceWeight: 3 };
    expect(await idsOf({ boost, domains: [useCases.domain, other] })).toEqual([
      "foreign",
      "other",
      "twin",
      "best",
      "opposite",
    ]);
  });

  test("prefers what differs from what came before, by the chunk that fits", async () => {
    expect(await idsOf({ diversity: 0.6 })).toEqual(["best", "opposite", "other", "twin"]);
    expect(await idsOf({ diversity: 0.6, mode: "text", query: "pear" })).toHaveLength(4);
  });

  test("gives the beginning of what a larger limit gives", async () => {
    const options = {
      diversity: 0.4,
      boost: { halfLife: DAY, importanceWeight: 1 },
      mode: "hybrid",
    } as const;
    const all = await idsOf({ ...options, query: "pear @0", domains: [useCases.domain, other] });
    expect(all).toHaveLength(5);
    for (const limit of [1, 2, 3, 4]) {
      const domains = [useCases.domain, other];
      expect(await idsOf({ ...options, query: "pear @0", domains, limit })).toEqual(all.slice(0, limit));
    }
  });

  test("does not count what is gone, nor what has no embedding", async () => {
    const { repository, domain } = useCases;
    const hits = [
      { id: "twin", chunkIndex: 1 },
      { id: "best", chunkIndex: undefined },
      { id: "missing", chunkIndex: 0 },
    ];
    const embeddings = await repository.readHitEmbeddings(domain, hits);
    const vectors = new Map(embeddings.map(({ id, vector }) => [id, [...vector]]));
    expect([...vectors.keys()].sort()).toEqual(["best", "twin"]);
    expect(vectors.get("best")).toEqual([...at(0)]);
    expect(vectors.get("twin")).toEqual([...at(3)]);
    expect(await repository.readAgeAndImportance(domain, ["missing"])).toEqual([]);
    expect(await repository.readAgeAndImportance(domain, ["twin", "best"])).toEqual(
      expect.arrayContaining([
        { id: "best", ageSeconds: expect.closeTo(2 * 86_400, -3), importance: undefined },
        { id: "twin", ageSeconds: expect.any(Number), importance: 0.2 },
      ]),
    );
  });

  test("takes an importance of an import that is no number, or far too large, for what it can", async () => {
    const domain = newDomainName();
    await useCases.store({ domain, id: "word", content: "pear @0" });
    await useCases.store({ domain, id: "huge", content: "pear @0" });
    const set = (id: string, value: string) =>
      database.query({
        text: `update "${domain}_memories" set metadata = '{"importance": ${value}}' where id = '${id}'`,
      });
    await set("word", '"high"');
    await set("huge", "1e400");
    const hits = await find({ domains: [domain], boost: { ...NO_BOOST, importanceWeight: 10 } });
    expect(hits.map(({ id, importance }) => [id, importance])).toEqual([
      ["huge", 11],
      ["word", 1],
    ]);
  });
});
