import { join } from "node:path";
import { Memory_Embedding_State as State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { SearchMode, StoreOutcome } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { readConfig } from "../../src/app/config.ts";
import { type App, startApp } from "../../src/app/start-app.ts";
import { blockOf, readPage, runShell } from "../support/documents.ts";
import { startNativePostgres } from "../support/postgres/native-postgres.ts";
import { installPostgresTools } from "../support/postgres/postgres-tools.ts";
import { embeddedServers, postgresServers } from "../support/server/server-engines.ts";
import { type GrpcClient, openGrpcClient } from "../support/server/server-process.ts";
import { silentLogger } from "../support/silent-logger.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

// Runs the backup instructions of docs/operations.md.

// Each test takes seconds; the time-out allows for a busy machine.
vi.setConfig({ testTimeout: 120_000 });

const operations = readPage("docs/operations.md");
const [dump, restore, copy] = [2, 3, 4].map((index) => blockOf(operations, "sh", index));

const memories = [
  { id: "staff-1", content: "The physician is unwell", source: "meeting", importance: 0.8, tags: ["staff"] },
  { id: "visitors-1", content: "Parking costs two euros", metadata: { valid: { until: 2027 } } },
  // Long enough for several chunks, which are stored in their own table.
  { id: "long-1", content: `${"The canteen serves soup. ".repeat(400)}The lift is out of order.` },
];

let ollama: FakeOllama;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  ollama = await startFakeOllama();
  directory = await temporaryDirectory();
});

afterAll(async () => {
  await ollama?.close();
  await directory?.remove();
});

describe.each(postgresServers())("on $name", ({ create }) => {
  test("a restored dump returns the same search results", async () => {
    await using original = await create();
    await using other = await startNativePostgres("backup");
    await installPostgresTools(directory.path);
    const inShell = (code = "") =>
      runShell(code, {
        directory: directory.path,
        env: {
          PATH: `${directory.path}:${process.env.PATH}`,
          DATABASE_URL: original.url,
          NEW_DATABASE_URL: other.url,
        },
      });

    const before = await withServer({ DATABASE_URL: original.url }, async (client) => {
      await storeAll(client);
      const found = await searchAll(client);
      // While the server runs.
      await inShell(dump);
      return found;
    });
    await inShell(restore);
    await withServer({ DATABASE_URL: other.url }, (client) => expectAsBefore(client, before));
  });
});

test.each(embeddedServers())(
  "a copy of the directory returns the same search results, on $name",
  async () => {
    const data = join(directory.path, "data");
    const before = await withServer({ MEMORY_DATA_DIR: data }, async (client) => {
      await storeAll(client);
      return await searchAll(client);
    });
    await runShell(copy ?? "", { directory: directory.path, env: { MEMORY_DATA_DIR: data } });
    const restored = join(directory.path, "memories-backup");
    await withServer({ MEMORY_DATA_DIR: restored }, (client) => expectAsBefore(client, before));
  },
);

async function withServer<T>(
  settings: Readonly<Record<string, string>>,
  use: (client: GrpcClient) => Promise<T>,
): Promise<T> {
  const environment = { MEMORY_PORT: "0", OLLAMA_API_URL: ollama.url, ...settings };
  const app: App = await startApp(readConfig(environment), silentLogger);
  using connection = openGrpcClient(app.url);
  try {
    return await use(connection.client);
  } finally {
    connection.close();
    await app.close();
  }
}

async function storeAll(client: GrpcClient): Promise<void> {
  for (const memory of memories) {
    const stored = await client.store({ domain: "clinic", ...memory });
    expect(stored.memory?.embedding?.state).toBe(State.READY);
  }
}

/** Returns the memory, chunk and snippet of every hit, in all three search modes. */
async function searchAll(client: GrpcClient) {
  const found = [];
  for (const mode of [SearchMode.SEMANTIC, SearchMode.TEXT, SearchMode.HYBRID]) {
    const { hits, info } = await client.search({ query: "medic parking lift", domain: "clinic", mode });
    expect(info).toMatchObject({ modeUsed: mode, degraded: false });
    found.push(hits.map(({ memory, chunkIndex, snippet }) => ({ memory, chunkIndex, snippet })));
  }
  return found;
}

async function expectAsBefore(
  client: GrpcClient,
  before: Awaited<ReturnType<typeof searchAll>>,
): Promise<void> {
  expect(before.map((hits) => hits.length)).toEqual([3, 2, 3]);
  expect(await searchAll(client)).toEqual(before);
  for (const memory of memories) {
    expect((await client.store({ domain: "clinic", ...memory })).outcome).toBe(StoreOutcome.UNCHANGED);
  }
  const later = await client.store({ domain: "clinic", id: "later-1", content: "The sick doctor is back" });
  expect(later).toMatchObject({ outcome: StoreOutcome.CREATED, memory: { embedding: { version: 1 } } });
}
