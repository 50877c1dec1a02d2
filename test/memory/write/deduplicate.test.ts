import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_DOMAIN_SETTINGS } from "../../../src/memory/model/domain.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { draft, microsecondsFromNow } from "../../support/drafts.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

describe.each(databaseEngines())("a domain that keeps each content once on $name", ({ open }) => {
  let database: Database;
  beforeAll(async () => {
    database = await open({ poolSize: 10 });
  });
  afterAll(() => database.close());

  const start = async (): Promise<UseCases> => {
    const useCases = createUseCases(database);
    const settings = { ...DEFAULT_DOMAIN_SETTINGS, deduplicateContent: true };
    await useCases.repository.createDomain(useCases.domain, 3, { settings });
    return useCases;
  };
  const countRows = async ({ domain }: UseCases) =>
    (await database.query({ text: `select from "${domain}_memories"` })).length;
  const idsIn = async ({ domain }: UseCases) =>
    (await database.query({ text: `select id from "${domain}_memories" order by id` })).map(({ id }) => id);
  const outcomesOf = (results: readonly { readonly outcome: string }[]) =>
    results.map(({ outcome }) => outcome).sort();

  test("returns the memory that has the content, and stores nothing", async () => {
    const useCases = await start();
    const first = await useCases.store({ id: "a", content: "apple @0", tags: ["t"] });
    const second = await useCases.store({ id: "b", content: "apple @0", tags: ["u"] });
    expect(second).toEqual({ outcome: "duplicate", memory: first.memory });
    expect(await useCases.store({ content: "apple @0" })).toEqual(second);
    expect((await useCases.store({ id: "a", content: "apple @0", tags: ["t"] })).outcome).toBe("unchanged");
    expect(await idsIn(useCases)).toEqual(["a"]);
  });

  test("treats contents that differ in one byte as different", async () => {
    const useCases = await start();
    const contents = ["apple @0", "Apple @0", "apple @0 ", "a\u0301pple @0", "\u00e1pple @0"];
    for (const content of contents) expect((await useCases.store({ content })).outcome).toBe("created");
  });

  test.each(["fail", "replace", "keep"] as const)(
    "never has a content twice by storing it under an id that is taken (%s)",
    async (ifExists) => {
      const useCases = await start();
      const { memory } = await useCases.store({ id: "a", content: "apple @0" });
      await useCases.store({ id: "b", content: "pear @0" });
      const storing = useCases.store({ id: "b", content: "apple @0", ifExists });
      if (ifExists === "fail") {
        await expect(storing).rejects.toMatchObject({
          reason: "MEMORY_ALREADY_EXISTS",
          metadata: { id: "b" },
        });
      }
      if (ifExists === "replace") expect(await storing).toEqual({ outcome: "duplicate", memory });
      if (ifExists === "keep") expect((await storing).outcome).toBe("kept");
      expect(await useCases.read("b")).toMatchObject({ content: "pear @0", version: 1n });
    },
  );

  test("rejects an update to the content of another memory", async () => {
    const useCases = await start();
    const { memory } = await useCases.store({ id: "a", content: "apple @0" });
    await useCases.store({ id: "b", content: "pear @0" });
    await expect(
      useCases.repository.change(useCases.domain, "b", () => draft({ id: "b", content: "apple @0" })),
    ).rejects.toMatchObject({ reason: "MEMORY_ALREADY_EXISTS", metadata: { id: "a" }, memory });
    expect(await useCases.read("b")).toMatchObject({ content: "pear @0" });
  });

  test("accepts a content again after the memory that had it was replaced or has expired", async () => {
    const useCases = await start();
    await useCases.store({ id: "a", content: "apple @0" });
    await useCases.store({ id: "a", content: "pear @0", ifExists: "replace" });
    expect((await useCases.store({ id: "b", content: "apple @0" })).outcome).toBe("created");

    await useCases.store({ id: "c", content: "plum @0", expiry: { kind: "after", ttl: 1n } });
    expect((await useCases.store({ id: "d", content: "plum @0" })).outcome).toBe("created");
    await useCases.store({ id: "e", content: "fig @0", expiry: { kind: "after", ttl: 1n } });
    expect((await useCases.store({ id: "d", content: "fig @0", ifExists: "replace" })).outcome).toBe(
      "replaced",
    );
    // The expired memory is deleted with its chunks.
    expect(await idsIn(useCases)).toEqual(["a", "b", "d"]);
  });

  test("stores one memory when fifty calls store the same content under different ids", async () => {
    const useCases = await start();
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, i) => useCases.store({ id: `m${i}`, content: "apple @0" })),
    );
    expect(outcomesOf(results)).toEqual(["created", ...Array.from({ length: 49 }, () => "duplicate")]);
    const made = results.find(({ outcome }) => outcome === "created");
    for (const { memory } of results) expect(memory.id).toBe(made?.memory.id);
    expect(await countRows(useCases)).toBe(1);
  });

  test("stores one memory when fifty calls store the content of an expired memory", async () => {
    const useCases = await start();
    const expiry = { kind: "at", time: microsecondsFromNow(-3_600) } as const;
    await useCases.repository.insert(useCases.domain, draft({ id: "old", content: "apple @0", expiry }));
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, i) => useCases.store({ id: `m${i}`, content: "apple @0" })),
    );
    expect(outcomesOf(results)).toEqual(["created", ...Array.from({ length: 49 }, () => "duplicate")]);
    expect(await countRows(useCases)).toBe(1);
  });

  test("stores one memory when fifty calls store it under the same id", async () => {
    const useCases = await start();
    const results = await Promise.all(
      Array.from({ length: 50 }, () => useCases.store({ id: "m", content: "apple @0" })),
    );
    expect(outcomesOf(results)).toEqual(["created", ...Array.from({ length: 49 }, () => "unchanged")]);
  });

  test("accepts a content once when fifty calls replace their content by it", async () => {
    const useCases = await start();
    const ids = Array.from({ length: 50 }, (_, i) => `m${i}`);
    for (const id of ids)
      await useCases.store({ id, content: `content of ${id} @0`, embeddingMode: "background" });
    const results = await Promise.all(
      ids.map((id) => useCases.store({ id, content: "apple @0", ifExists: "replace" })),
    );
    expect(outcomesOf(results)).toEqual([...Array.from({ length: 49 }, () => "duplicate"), "replaced"]);
    expect(await countRows(useCases)).toBe(50);
  });
});
