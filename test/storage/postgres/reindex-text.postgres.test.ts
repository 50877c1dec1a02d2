import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { domainTables } from "../../../src/storage/postgres/domains/domain-tables.ts";
import { draft, newDomainName } from "../../support/drafts.ts";
import { databaseEngines, urlOf } from "../../support/postgres/databases.ts";
import { requireDeclaredWrites } from "../../support/postgres/require-declared-writes.ts";

const servers = databaseEngines().filter(({ engine }) => engine === "postgres");

describe.each(servers)("reindexing on $name", ({ open }) => {
  let database: Database;
  let repository: Repository;
  let reader: pg.Client;
  let domain: string;

  beforeAll(async () => {
    database = await open();
    repository = createPostgresRepository(requireDeclaredWrites(database));
    reader = new pg.Client({ connectionString: urlOf(database) });
    await reader.connect();
  });
  afterAll(async () => {
    await reader.end();
    await database.close();
  });
  beforeEach(async () => {
    domain = newDomainName();
    await repository.createDomain(domain, 3);
    for (const id of ["a", "b"]) await repository.insert(domain, draft({ id }));
    await repository.updateDomain(domain, { textSearchConfig: "german" });
  });

  const waitingFor = async (table: string) =>
    (
      await database.query(
        { text: "select from pg_locks where relation = to_regclass($1) and not granted" },
        [table],
      )
    ).length;

  /** Delays a change of the tables after it has locked the first one, until reindexing runs concurrently. */
  const meet = async (change: () => Promise<unknown>) => {
    const { memories, chunks } = domainTables(domain);
    await reader.query(`begin; lock table ${chunks} in access share mode`);
    const changed = Promise.allSettled([change()]);
    await expect.poll(() => waitingFor(chunks)).toBe(1);
    const indexed = Promise.allSettled([repository.reindexTexts(domain, 10)]);
    await expect.poll(() => waitingFor(memories)).toBe(1);
    await reader.query("commit");
    return (await Promise.all([changed, indexed])).flat();
  };

  test("does not prevent deleting the domain", async () => {
    expect(await meet(() => repository.deleteDomain(domain, undefined))).toEqual([
      { status: "fulfilled", value: 2n },
      { status: "rejected", reason: expect.objectContaining({ reason: "DOMAIN_NOT_FOUND" }) },
    ]);
  });

  test("does not prevent changing the dimensions, and continues", async () => {
    const space = { model: "wide", digest: "", dimensions: 4, profile: "p/1" };
    const wide = await repository.registerEmbeddingVersion(space, 1);
    expect(await meet(() => repository.useEmbeddingVersion(domain, wide, 4))).toEqual([
      { status: "fulfilled", value: expect.objectContaining({ dimensions: 4 }) },
      { status: "fulfilled", value: false },
    ]);
    expect(await repository.listReindexing()).not.toContain(domain);
  });
});
