import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../../../src/storage/database/database.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

describe.each(databaseEngines())("writing on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let calls: ("query" | "transaction")[];

  beforeAll(async () => {
    database = await open();
    const counted: Database = Object.assign(Object.create(database), {
      query: (...parameters: Parameters<Database["query"]>) => {
        calls.push("query");
        return database.query(...parameters);
      },
      transaction: (...parameters: Parameters<Database["transaction"]>) => {
        calls.push("transaction");
        return database.transaction(...parameters);
      },
    });
    useCases = createUseCases(counted);
    calls = [];
    await useCases.store({ id: "first" });
  });

  beforeEach(() => {
    calls = [];
  });

  afterAll(async () => {
    await useCases?.close();
    await database?.close();
  });

  test("stores a new memory in one statement, without an explicit transaction", async () => {
    expect((await useCases.store({ id: "a", content: "apples @10" })).outcome).toBe("created");
    expect(calls).toEqual(["query"]);
  });

  test("stores a batch of one memory in one statement as well", async () => {
    const [result] = await useCases.batchStore([{ id: "b", content: "pears @20" }]);
    expect(result).toMatchObject({ outcome: "created" });
    expect(calls).toEqual(["query"]);
  });

  test("stores a memory of several chunks, or several memories, in one transaction", async () => {
    await useCases.store({ id: "c", content: "plums @30. ".repeat(200) });
    await useCases.batchStore([{ id: "d" }, { id: "e" }]);
    expect(calls).toEqual(["transaction", "transaction"]);
  });
});
