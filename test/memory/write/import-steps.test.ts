import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ImportedRecord } from "../../../src/memory/write/import/import-record.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

describe.each(databaseEngines())("a step of an import on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  const steps: number[] = [];

  beforeAll(async () => {
    database = await open();
    useCases = createUseCases(database, {
      wrap: (repository) => ({
        ...repository,
        storeMany(entries, ...rest) {
          steps.push(entries.length);
          return repository.storeMany(entries, ...rest);
        },
        insert(...parameters) {
          steps.push(1);
          return repository.insert(...parameters);
        },
      }),
    });
  });

  afterEach(() => steps.splice(0));

  afterAll(async () => {
    await useCases?.close();
    await database?.close();
  });

  const long = "x".repeat(600_000);

  test.each<[string, Partial<ImportedRecord>]>([
    ["contents", { content: long }],
    ["sources", { source: long }],
    ["tags", { tags: [long] }],
    ["metadata", { metadata: { text: long } }],
  ])("ends where %s are long", async (name, fields) => {
    async function* records(): AsyncGenerator<ImportedRecord> {
      for (let n = 0; n < 5; n++) {
        yield {
          domain: useCases.domain,
          id: `${name}-${n}`,
          content: "short",
          source: "",
          importance: undefined,
          tags: [],
          metadata: {},
          expiry: { kind: "never" },
          preserved: { createTime: undefined, updateTime: undefined, version: undefined },
          chunks: undefined,
          ...fields,
        };
      }
    }
    const report = await useCases.memories.import(
      { ifExists: "fail", onError: "stop", embeddingVersion: undefined, records: records() },
      { signal: new AbortController().signal, remainingMs: undefined },
    );
    expect(report.created).toBe(5);
    expect(steps).toEqual([2, 2, 1]);
  });
});
