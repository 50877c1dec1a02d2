import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../../src/storage/database/database.ts";
import { collect, createServiceClient } from "../../support/in-process/service.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines, urlOf } from "../../support/postgres/databases.ts";

const engines = databaseEngines().filter(({ engine }) => engine === "postgres");

// Another connection locks the tables, so that each call waits in the database until its caller cancels it. The
// embedded engine has one connection, so no call can wait for such a lock.
describe.each(engines)("when its caller cancels it, on $name,", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let admin: pg.Client;
  let client: ReturnType<typeof createServiceClient>;

  beforeAll(async () => {
    database = await open({ poolSize: 4 });
    useCases = createUseCases(database);
    client = createServiceClient(useCases);
    admin = new pg.Client({ connectionString: urlOf(database) });
    await admin.connect();
    await client.store({ id: "m", content: "a harbour @30" });
  });
  afterAll(async () => {
    await admin.end();
    await useCases.close();
    await database.close();
  });

  const waiting = async () => {
    const { rowCount } = await admin.query(
      "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
    );
    return rowCount ?? 0;
  };
  const all = { condition: { case: "sources" as const, value: { values: ["x"] } } };

  const CALLS: Readonly<Record<string, (options: CallOptions) => Promise<unknown>>> = {
    store: (options) => client.store({ content: "x" }, options),
    batchStore: (options) => client.batchStore({ items: [{ content: "x" }] }, options),
    get: (options) => client.get({ id: "m" }, options),
    list: (options) => client.list({}, options),
    update: (options) =>
      client.update({ memory: { id: "m", source: "y" }, updateMask: { paths: ["source"] } }, options),
    delete: (options) => client.delete({ id: "m" }, options),
    deleteMatching: (options) => client.deleteMatching({ filter: all }, options),
    search: (options) => client.search({ query: "harbour" }, options),
    streamSearch: (options) => collect(client.streamSearch({ query: "harbour" }, options)),
    export: (options) => collect(client.export({}, options)),
    import: (options) =>
      client.import(
        (async function* () {
          yield { item: { case: "options" as const, value: { domain: useCases.domain } } };
          yield { item: { case: "record" as const, value: { memory: { id: "n", content: "x" } } } };
        })(),
        options,
      ),
    retryFailed: (options) => client.retryFailed({}, options),
  };

  test("every method of the service is tried", () => {
    expect(Object.keys(CALLS)).toEqual(MemoryService.methods.map(({ localName }) => localName));
  });

  test.each(Object.entries(CALLS))(
    "%s leaves nothing at work in the database",
    { timeout: 20_000 },
    async (_, call) => {
      const leaving = new AbortController();
      const tables = `"${useCases.domain}_memories", "${useCases.domain}_chunks"`;
      await admin.query("begin");
      try {
        await admin.query(`lock table ${tables} in access exclusive mode`);
        const ended = call({ signal: leaving.signal }).then(
          () => "succeeded",
          (error: unknown) => ConnectError.from(error).code,
        );
        await expect.poll(waiting, { timeout: 5_000 }).toBeGreaterThan(0);
        leaving.abort();
        expect(await ended).toBe(Code.Canceled);
        await expect.poll(waiting, { timeout: 5_000 }).toBe(0);
      } finally {
        await admin.query("rollback");
      }
      expect((await client.get({ id: "m" })).memory?.content).toBe("a harbour @30");
    },
  );
});
