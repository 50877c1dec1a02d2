import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SearchCommand } from "../../../src/memory/search/search-command.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { at, draft, embedding, newDomainName } from "../../support/drafts.ts";
import {
  createUseCases,
  searchCommand,
  type UseCaseOptions,
  type UseCases,
} from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

describe.each(databaseEngines())("Search in several domains on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let fruit: string;
  let cakes: string;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
    useCases = createUseCases(database);
    [fruit, cakes] = [useCases.domain, newDomainName()];
    // The same id in both: it is unique within its domain only.
    await useCases.store({ domain: fruit, id: "same", content: "an apple @0" });
    await useCases.store({ domain: fruit, id: "pear", content: "a pear @40" });
    await useCases.store({ domain: cakes, id: "same", content: "an apple pie @10" });
    await useCases.store({ domain: cakes, id: "tart", content: "a tart @20" });
  });
  afterAll(() => database.close());

  const placesOf = async (fields: Partial<SearchCommand>, from = useCases) => {
    const { hits, info } = await from.find({ domains: [fruit, cakes], ...fields });
    const names = new Map([
      [fruit, "fruit"],
      [cakes, "cakes"],
    ]);
    return { info, hits, places: hits.map(({ memory, id }) => `${names.get(memory.domain) ?? "?"}/${id}`) };
  };
  /** A domain in an embedding version of its own, whose memories lie at these angles. */
  const foreignDomain = async (...degrees: readonly number[]) => {
    const { repository } = useCases;
    const name = newDomainName();
    const space = { model: "foreign", digest: "", dimensions: 3, profile: "p/1" };
    const version = await repository.registerEmbeddingVersion(space, 1);
    await repository.createDomain(name, 3);
    await repository.useEmbeddingVersion(name, version, 3);
    for (const angle of degrees) {
      await repository.insert(
        name,
        draft({ id: `f${angle}`, content: "apple", embedding: embedding(version, angle) }),
      );
    }
    return { name, version };
  };

  test("ranks by similarity across domains of one embedding version", async () => {
    const { places, info } = await placesOf({ query: "x @0", mode: "semantic" });
    expect(places).toEqual(["fruit/same", "cakes/same", "cakes/tart", "fruit/pear"]);
    const version = (await useCases.repository.findDomain(fruit))?.embeddingVersion;
    expect(info).toMatchObject({ mergedByRank: false, embeddingVersion: version, limitFilled: true });
  });

  test("ranks hits of both legs by their place among all", async () => {
    const { places, hits } = await placesOf({ query: "apple @10" });
    expect(places.slice(0, 2).sort()).toEqual(["cakes/same", "fruit/same"]);
    expect(hits.map(({ semanticRank }) => semanticRank).sort()).toEqual([1, 2, 3, 4]);
    expect(hits.flatMap(({ textRank }) => (textRank === undefined ? [] : [textRank])).sort()).toEqual([1, 2]);
  });

  test("ends at the limit, with a prefix of what a larger limit gives", async () => {
    const all = await placesOf({ query: "apple @10" });
    for (const limit of [1, 2, 3]) {
      const { places, info } = await placesOf({ query: "apple @10", limit });
      expect(places).toEqual(all.places.slice(0, limit));
      expect(info.limitFilled).toBe(true);
    }
  });

  test("does not search other domains, nor one alone in another's place", async () => {
    expect((await placesOf({ domains: [cakes], query: "x @0", mode: "semantic" })).places).toEqual([
      "cakes/same",
      "cakes/tart",
    ]);
  });

  test("refuses a domain that does not exist among others that do", async () => {
    await expect(placesOf({ domains: [fruit, "missing"] })).rejects.toMatchObject({
      reason: "DOMAIN_NOT_FOUND",
      metadata: { domain: "missing" },
    });
  });

  test("streams hits of all domains in the order of Search", async () => {
    const { hits } = await placesOf({ query: "apple @10" });
    const signal = new AbortController().signal;
    const command = { domains: [fruit, cakes], query: "apple @10" };
    const stream = await useCases.search.stream(
      { ...searchCommand(fruit), ...command },
      { signal, remainingMs: undefined },
    );
    const streamed: string[] = [];
    for await (const { domain, id } of stream.hits) streamed.push(`${domain}/${id}`);
    expect(streamed).toEqual(hits.map(({ domain, id }) => `${domain}/${id}`));
    expect(stream.progress).toEqual({ sent: 4, skipped: 0 });
  });

  test("puts ranks together where a caller's version is only one domain's, and says what was left out", async () => {
    const foreign = await foreignDomain(5, 50);
    const query = { vector: at(0), version: foreign.version };
    const { hits, info } = await placesOf({
      domains: [foreign.name, fruit],
      query: "pear",
      embedding: query,
    });
    // The other domain is found by its words.
    expect(hits.map(({ id }) => id).sort()).toEqual(["f5", "f50", "pear"]);
    expect(info).toMatchObject({
      degraded: "embedding_version_mismatch",
      embeddingVersion: foreign.version,
      modeUsed: "hybrid",
    });
  });

  test("reports a domain without embeddings, which it searches without the semantic leg", async () => {
    const empty = newDomainName();
    await useCases.repository.createDomain(empty, 3);
    const { places, info } = await placesOf({
      domains: [fruit, empty],
      query: "x @0",
      mode: "semantic",
      allowFallback: false,
    });
    expect(places).toEqual(["fruit/same", "fruit/pear"]);
    expect(info.degraded).toBe("no_embeddings");
    await expect(
      placesOf({ domains: [empty], query: "x @0", mode: "semantic", allowFallback: false }),
    ).rejects.toMatchObject({ reason: "EMBEDDER_UNAVAILABLE" });
  });

  test("embeds the query once for all domains of a model", async () => {
    const before = useCases.embedder.calls.length;
    await placesOf({ query: "asked once @7", domains: "all" });
    expect(useCases.embedder.calls.slice(before)).toEqual([{ texts: ["asked once @7"], role: "query" }]);
  });

  test("searches all domains two at a time", async () => {
    let running = 0;
    let most = 0;
    const counting: UseCaseOptions["wrap"] = (repository) => ({
      ...repository,
      async searchSemantic(...args) {
        most = Math.max(most, ++running);
        try {
          return await repository.searchSemantic(...args);
        } finally {
          running--;
        }
      },
    });
    const other = createUseCases(database, { wrap: counting, embedder: useCases.embedder });
    for (let i = 0; i < 6; i++)
      await useCases.store({ domain: newDomainName(), id: "m", content: "far @170" });
    const { hits } = await placesOf({ domains: "all", query: "x @0", mode: "semantic", limit: 100 }, other);
    expect(hits.length).toBeGreaterThanOrEqual(10);
    expect(hits.slice(0, 2).map(({ id }) => id)).toEqual(["same", "same"]);
    expect(most).toBe(2);
  });

  describe("by the caller's own vector", () => {
    test("finds what is near to it, and the words of the query beside it", async () => {
      const version = (await useCases.repository.findDomain(fruit))?.embeddingVersion ?? 0;
      const before = useCases.embedder.calls.length;
      const vector = { vector: at(40), version };
      const near = await placesOf({ domains: [fruit], query: "", mode: "semantic", embedding: vector });
      expect(near.places).toEqual(["fruit/pear", "fruit/same"]);
      const both = await placesOf({ domains: [fruit], query: "apple", embedding: vector });
      expect(both.hits.map(({ textRank }) => textRank).sort()).toEqual([1, undefined]);
      expect(useCases.embedder.calls).toHaveLength(before);
    });

    test("refuses another version or number of dimensions than the domain's", async () => {
      const version = (await useCases.repository.findDomain(fruit))?.embeddingVersion ?? 0;
      const find = (vector: Float32Array, other = version) =>
        placesOf({ domains: [fruit], query: "x", embedding: { vector, version: other } });
      await expect(find(at(0), version + 1_000)).rejects.toMatchObject({
        reason: "INVALID_ARGUMENT",
        message: `query_embedding.embedding_version: must be the embedding version of the domain, which is ${version}; is ${version + 1_000}`,
      });
      await expect(find(Float32Array.of(1, 0))).rejects.toMatchObject({
        reason: "INVALID_ARGUMENT",
        message: "query_embedding.values: must have the 3 dimensions of the embedding version, has 2",
      });
    });
  });
});
