import { setTimeout as sleep } from "node:timers/promises";
import {
  SearchMode,
  type StreamSearchResponse,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { restOf } from "../support/collect.ts";
import { readMemoryUse } from "../support/server/inspected-memory.ts";
import { postgresServers, serverEngines } from "../support/server/server-engines.ts";
import {
  type GrpcClient,
  openGrpcClient,
  type ServerProcess,
  startServerProcess,
} from "../support/server/server-process.ts";
import { storeMany } from "../support/store-many.ts";

const DOMAIN = "streams";
const MEMORIES = 3_000;
/** Several pages, of which the buffers of a consumer that has read nothing hold few. */
const SOME_MEMORIES = 1_000;
/** Part of every content, so that one search finds all memories. */
const COMMON_WORD = "harbour";
const CONTENT_BYTES = 3_000;
/** How long the consumer pauses: long enough for a server that reads ahead to read everything. */
const PAUSE_MS = Number(process.env.TEST_STREAM_PAUSE_MS ?? 2_000);
const MAX_GROWTH_BYTES = 5 * 1024 * 1024;
const IDLE_WITHIN_MS = 200;

const everything = { query: COMMON_WORD, domain: DOMAIN, mode: SearchMode.TEXT, limit: 10_000 };

describe.each(serverEngines())("on $name", ({ create }) => {
  test("a consumer that pauses after one hit costs almost nothing, delays no other caller, and gets the rest later", {
    timeout: 120_000 + PAUSE_MS,
  }, async () => {
    await using data = await create();
    await using server = await startServerProcess({ env: data.env, nodeOptions: ["--inspect=127.0.0.1:0"] });
    using connection = openGrpcClient(server.url);
    using other = openGrpcClient(server.url);
    await storeAll(connection.client, MEMORIES);
    // The one-time allocations of a first stream are not the cost of a waiting consumer.
    await countHits(connection.client.streamSearch(everything));
    const before = await readMemoryUse(server);

    const stream = connection.client.streamSearch(everything)[Symbol.asyncIterator]();
    expect((await stream.next()).value?.item.case).toBe("info");
    expect((await stream.next()).value?.item.case).toBe("hit");
    const end = performance.now() + PAUSE_MS;
    await using activity = await watchActivity(data.env.DATABASE_URL);
    // The server continues until the buffers on the way are full.
    await expect.poll(() => activity.busy()).toEqual([]);
    let stores = 0;
    while (performance.now() < end) {
      expect(await activity.busy()).toEqual([]);
      await other.client.store({ content: `nothing in common ${stores++}`, domain: DOMAIN });
      await sleep(PAUSE_MS / 20);
    }
    const after = await readMemoryUse(server);
    console.log(
      `after ${PAUSE_MS} ms: used ${megabytes(after.used - before.used)}, rss ${megabytes(after.rss - before.rss)}`,
    );
    expect(after.used - before.used).toBeLessThan(MAX_GROWTH_BYTES);
    expect(stores).toBeGreaterThan(1);
    expect(await countHits(restOf(stream))).toBe(MEMORIES - 1);
  });
});

describe.each(postgresServers())("cancelled on $name", ({ create }) => {
  test("a stream cancelled between two pages reads no further page", { timeout: 60_000 }, async () => {
    await using data = await create();
    await using server = await startServerProcess({ env: data.env });
    using connection = openGrpcClient(server.url);
    await storeAll(connection.client, SOME_MEMORIES);
    const leave = new AbortController();
    const stream = connection.client
      .streamSearch(everything, { signal: leave.signal })
      [Symbol.asyncIterator]();
    await stream.next();
    await stream.next();
    await using activity = await watchActivity(data.url);
    await expect.poll(() => activity.busy()).toEqual([]);

    // From here on, the statement of a next page would be visible as waiting.
    await using _lock = await lockMemories(data.url);
    leave.abort();
    const line = await server.whenLogged((line) => line.code === "canceled");
    await sleep(IDLE_WITHIN_MS);
    expect(await activity.busy()).toEqual([]);
    expect(line.hits).toBeLessThan(SOME_MEMORIES);
    expectNoErrorLogged(server);
  });

  test("a stream cancelled while it reads a page stops its statement in PostgreSQL at once", {
    timeout: 60_000,
  }, async () => {
    await using data = await create();
    await using server = await startServerProcess({ env: data.env });
    using connection = openGrpcClient(server.url);
    await storeAll(connection.client, SOME_MEMORIES);
    const leave = new AbortController();
    const stream = connection.client
      .streamSearch(everything, { signal: leave.signal })
      [Symbol.asyncIterator]();
    await stream.next();
    await using activity = await watchActivity(data.url);
    await expect.poll(() => activity.busy()).toEqual([]);

    await using _lock = await lockMemories(data.url);
    const reading = countHits(restOf(stream)).catch(() => {});
    await expect.poll(() => activity.busy()).toHaveLength(1);
    leave.abort();
    await activity.expectIdleSoon();
    await reading;
    expectNoErrorLogged(server);
  });

  test.each([
    ["text", SearchMode.TEXT, 10],
    ["semantic", SearchMode.SEMANTIC, 10],
    ["deep semantic", SearchMode.SEMANTIC, 5_000],
    ["hybrid", SearchMode.HYBRID, 10],
  ])(
    "a %s stream cancelled while it ranks stops its statement in PostgreSQL at once",
    async (_name, mode, limit) => {
      await using ollama = await startFakeOllama();
      await using data = await create();
      await using server = await startServerProcess({ env: { ...data.env, OLLAMA_API_URL: ollama.url } });
      using connection = openGrpcClient(server.url);
      const { client } = connection;
      await client.store({ content: `${COMMON_WORD} wall`, domain: DOMAIN });
      expect(await countHits(client.streamSearch({ ...everything, mode, limit }))).toBe(1);
      await using activity = await watchActivity(data.url);

      await using _lock = await lockMemories(data.url);
      const leave = new AbortController();
      const stream = client.streamSearch({ ...everything, mode, limit }, { signal: leave.signal });
      const reading = countHits(stream).catch(() => {});
      await expect.poll(() => activity.busy()).not.toEqual([]);
      leave.abort();
      await activity.expectIdleSoon();
      await reading;
      expectNoErrorLogged(server);
    },
  );
});

async function storeAll(client: GrpcClient, count: number): Promise<void> {
  // Long contents with few distinct words: distinct words make storing slow.
  await storeMany(client, DOMAIN, count, (index) =>
    `${COMMON_WORD} number ${index} `.padEnd(CONTENT_BYTES, "~ "),
  );
}

async function countHits(stream: AsyncIterable<StreamSearchResponse>): Promise<number> {
  let hits = 0;
  for await (const { item } of stream) if (item.case === "hit") hits++;
  return hits;
}

/** Returns the activity of the server's connections, except health checks and the search for pending memories. */
async function watchActivity(url: string | undefined) {
  const client = url === undefined ? undefined : new pg.Client({ connectionString: url });
  await client?.connect();
  const busy = async (): Promise<string[]> => {
    const result = await client?.query<{ activity: string }>(
      `select state || ': ' || query as activity from pg_stat_activity
        where datname = current_database() and application_name = 'memory-service' and state <> 'idle'
          and query <> 'select 1' and query not like '%skip locked%'`,
    );
    return result?.rows.map((row) => row.activity) ?? [];
  };
  return {
    busy,
    async expectIdleSoon(): Promise<void> {
      await expect.poll(busy, { timeout: IDLE_WITHIN_MS, interval: 10 }).toEqual([]);
    },
    [Symbol.asyncDispose]: async () => await client?.end(),
  };
}

/** Locks the domain's memories against everyone until disposed. */
async function lockMemories(url: string): Promise<AsyncDisposable> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`begin; lock table ${DOMAIN}_memories in access exclusive mode`);
  return { [Symbol.asyncDispose]: async () => await client.end() };
}

/** Ignores the error of a consumer that leaves. */
function expectNoErrorLogged({ logs }: ServerProcess): void {
  const error = 50;
  expect(logs.filter(({ level }) => Number(level) >= error)).toEqual([]);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}
