import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { at, draft, embedding, newDomainName } from "../../support/drafts.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";
import { requireDeclaredWrites } from "../../support/postgres/require-declared-writes.ts";

describe.each(databaseEngines())("export and import on $name", ({ open }) => {
  let database: Database;
  let repository: Repository;
  let domain: string;
  let version: number;

  beforeAll(async () => {
    database = await open();
    repository = createPostgresRepository(requireDeclaredWrites(database));
    const space = { model: "a", digest: "", dimensions: 3, profile: "p/1" };
    version = await repository.registerEmbeddingVersion(space, 1);
  });
  afterAll(() => database.close());
  beforeEach(async () => {
    domain = newDomainName();
    await repository.createDomain(domain, 3);
  });

  const insert = async (fields: Parameters<typeof draft>[0]) => {
    const memory = await repository.insert(domain, draft(fields));
    if (memory === undefined) throw new Error("the id is taken");
    return memory;
  };

  test("chunks are read exactly as they were written, and the first starts with the content", async () => {
    const content = "😀".repeat(35);
    const one = await insert({ id: "one", content, embedding: embedding(version, 1) });
    const many = await insert({ id: "many", content, chunkCount: 3, embedding: embedding(version, 1, 2, 3) });
    const found = await repository.readEmbeddings(domain, [one, many], version);
    expect([...found]).toEqual(
      expect.arrayContaining([
        ["one", [{ start: 0, end: 35, vector: at(1) }]],
        [
          "many",
          [
            { start: 0, end: 10, vector: at(1) },
            { start: 10, end: 20, vector: at(2) },
            { start: 20, end: 30, vector: at(3) },
          ],
        ],
      ]),
    );
  });

  test("no embedding is read for memories that are pending, of another version, or have changed in the meantime", async () => {
    const changed = await insert({ id: "changed", content: "before", embedding: embedding(version, 1) });
    await repository.change(domain, "changed", () =>
      draft({ id: "changed", content: "after", embedding: embedding(version, 2) }),
    );
    const pending = await insert({ id: "pending" });
    const other = await insert({ id: "other", content: "other", embedding: embedding(version + 1, 1) });
    const all = [changed, pending, other, { id: "missing", version: 1n }];
    expect(await repository.readEmbeddings(domain, all, version)).toEqual(new Map());
  });

  test("times and version are preserved if they are given", async () => {
    const preserved = { createTime: -1_234_567n, updateTime: 1_600_000_000_123_457n, version: 7n };
    const inserted = await insert({ id: "m", preserved });
    expect(inserted).toMatchObject(preserved);
    const change = (fields: Parameters<typeof draft>[0]) =>
      repository.change(domain, "m", () => draft({ id: "m", ...fields }));
    const later = { createTime: 5n, updateTime: undefined, version: undefined };
    const second = await change({ content: "b", preserved: later });
    expect(second).toMatchObject({ createTime: 5n, version: 8n });
    expect(second?.updateTime).toBeGreaterThan(preserved.updateTime);
    expect(await change({ content: "b", embedding: "keep", preserved })).toMatchObject(preserved);
    expect(await change({ content: "b", embedding: "keep" })).toMatchObject({
      createTime: preserved.createTime,
      version: 8n,
    });
  });
});
