import { readdir } from "node:fs/promises";
import { SearchMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { sqlDirectory } from "../../src/storage/migrations/migrations.ts";
import { postgresServers, serverEngines } from "../support/server/server-engines.ts";
import { type GrpcClient, openGrpcClient, startServerProcess } from "../support/server/server-process.ts";

const PROCESSES = 10;
const STORES = 50;

describe.each(serverEngines())("on $name", ({ name: engine, create }) => {
  test.each([
    ["with an embedder", true],
    ["without an embedder", false],
  ])(
    "fifty concurrent first memories of one domain are all stored %s",
    { timeout: 120_000 },
    async (_name, up) => {
      await using ollama = await startFakeOllama();
      if (!up) await ollama.down();
      await using data = await create();
      const env = { ...data.env, OLLAMA_API_URL: ollama.url };
      await using cleanup = new AsyncDisposableStack();
      const clients: GrpcClient[] = [];
      // The embedded engine belongs to one server.
      for (let server = 0; server < (engine === "postgres" ? 2 : 1); server++) {
        const { url } = cleanup.use(await startServerProcess({ env }));
        clients.push(cleanup.use(openGrpcClient(url)).client);
      }

      const outcomes = await Promise.allSettled(
        Array.from({ length: STORES }, (_, i) =>
          clients[i % clients.length]?.store({
            content: `the harbour, seen ${i} times`,
            domain: "brand-new",
          }),
        ),
      );
      expect(outcomes.filter((outcome) => outcome.status === "rejected")).toEqual([]);
      for (const client of clients) {
        const { hits } = await client.search({
          query: "harbour",
          domain: "brand-new",
          mode: SearchMode.TEXT,
          limit: 1_000,
        });
        expect(new Set(hits.map(({ memory }) => memory?.id)).size).toBe(STORES);
      }
    },
  );
});

describe.each(postgresServers())("on $name", ({ create }) => {
  test("ten servers started at once on an empty database migrate it once", { timeout: 120_000 }, async () => {
    await using data = await create();
    await using servers = new AsyncDisposableStack();
    const started = await Promise.all(
      Array.from({ length: PROCESSES }, async () => servers.use(await startServerProcess({ env: data.env }))),
    );
    for (const server of started) expect((await fetch(`${server.url}/readyz`)).status).toBe(200);

    const client = new pg.Client({ connectionString: data.url });
    await client.connect();
    const { rows } = await client.query<{ name: string }>("select name from memory_migrations order by id");
    await client.end();
    const files = (await readdir(sqlDirectory)).filter((file) => file.endsWith(".sql")).sort();
    expect(rows.map(({ name }) => `${name}.sql`)).toEqual(files);
    const applied = started.flatMap(({ logs }) => logs.filter((line) => line.msg === "applied a migration"));
    expect(applied).toHaveLength(files.length);
  });

  test("first memories of a domain that is slow to create leave connections for other calls", async () => {
    await using data = await create();
    await using server = await startServerProcess({ env: { ...data.env, MEMORY_POOL_SIZE: "3" } });
    using connection = openGrpcClient(server.url);
    const { client } = connection;
    await client.store({ content: "the harbour" });

    // Holds the lock as another server does while it creates the domain.
    const slow = new pg.Client({ connectionString: data.url });
    await using cleanup = new AsyncDisposableStack();
    cleanup.defer(() => slow.end());
    await slow.connect();
    await slow.query("select pg_advisory_lock(hashtextextended('memory-service domain brand-new', 0))");
    const stores = Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => client.store({ content: `boat ${i}`, domain: "brand-new" })),
    );
    const waiting = async () => {
      const { rows } = await slow.query<{ count: number }>(
        "select count(*)::int from pg_stat_activity where wait_event = 'advisory' and datname = current_database()",
      );
      return rows[0]?.count;
    };
    await expect.poll(waiting).toBeGreaterThan(0);
    for (let i = 0; i < 10; i++) {
      expect((await client.search({ query: "harbour", mode: SearchMode.TEXT })).hits).toHaveLength(1);
    }
    await slow.query("select pg_advisory_unlock_all()");
    expect((await stores).filter((outcome) => outcome.status === "rejected")).toEqual([]);
  });
});
