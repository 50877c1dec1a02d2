import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { countPending } from "../../../src/storage/postgres/embeddings/count-pending.ts";
import { draft, embedding } from "../../support/drafts.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";
import { requireDeclaredWrites } from "../../support/postgres/require-declared-writes.ts";

describe.each(databaseEngines())("on $name", ({ open }) => {
  let database: Database;
  let repository: Repository;

  beforeAll(async () => {
    database = await open();
    repository = createPostgresRepository(requireDeclaredWrites(database));
    for (const domain of ["alpha", "beta", "gamma"]) await repository.createDomain(domain, 3);
    for (let n = 0; n < 3; n++) await repository.insert("alpha", draft());
    await repository.insert("beta", draft());
    await repository.insert("beta", draft({ embedding: embedding(1, 0) }));
  });

  afterAll(() => database?.close());

  test("pending memories are counted by domain", async () => {
    expect(await countPending(database)).toEqual(
      new Map([
        ["alpha", 3],
        ["beta", 1],
        ["gamma", 0],
      ]),
    );
  });

  test("counting stops at a maximum number of memories and of domains", async () => {
    const found = await countPending(database, { maxDomains: 2, maxMemories: 2 });
    expect(found).toEqual(
      new Map([
        ["alpha", 2],
        ["beta", 1],
      ]),
    );
  });

  test("counting stops when its signal aborts", async () => {
    await expect(countPending(database, { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow(
      "enough",
    );
  });
});
