import { Memory_Embedding_State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { SearchMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { v7 as uuidv7 } from "uuid";
import { describe, expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { createRandom } from "../support/random.ts";
import { serverEngines } from "../support/server/server-engines.ts";
import {
  type GrpcClient,
  isConnectionLost,
  openGrpcClient,
  type ServerProcess,
  startServerProcess,
} from "../support/server/server-process.ts";

const CLIENTS = 8;
const KILLS = 5;
const DOMAIN = "durability";
/** Part of every content, so that one search finds all memories. */
const COMMON_WORD = "harbour";
const WORDS = "copper lantern orchard glacier violin meadow saddle compass thunder basket".split(" ");

interface Stored {
  readonly content: string;
  readonly ready: boolean;
}

describe.each(serverEngines())("on $name", ({ create }) => {
  test("a repeatedly killed server keeps every acknowledged memory exactly once", {
    timeout: 300_000,
  }, async () => {
    const random = createRandom();
    await using ollama = await startFakeOllama();
    await using data = await create();
    const env = { ...data.env, OLLAMA_API_URL: ollama.url };
    const word = () => WORDS[random.between(0, WORDS.length - 1)];

    await using servers = new AsyncDisposableStack();
    let server = servers.use(await startServerProcess({ env }));
    const load = startLoad(server, (index) => `${COMMON_WORD} ${index} ${word()} ${word()} ${word()}`);
    const killedAt: number[] = [];
    for (let kill = 0; kill < KILLS; kill++) {
      killedAt.push(random.between(50, 300));
      await load.acknowledges(killedAt.at(-1) ?? 0);
      await server.kill();
      server = servers.use(await startServerProcess({ env }));
      load.use(server);
    }
    await load.stop();
    console.log(
      `seed ${random.seed}: killed after ${killedAt} more acknowledgements, ${load.repeated()} calls retried`,
    );

    using reader = openGrpcClient(server.url);
    const found = await readAll(reader.client);
    const lost = [...load.stored.keys()].filter((id) => !found.has(id));
    expect(lost, "acknowledged but missing").toEqual([]);
    expect(found.size, "found without a store").toBe(load.stored.size);
    for (const [id, { content, ready }] of load.stored) {
      expect(found.get(id)?.content).toBe(content);
      if (ready) expect(found.get(id)?.ready, `${id} was READY`).toBe(true);
    }
    expect(load.repeated(), "calls cut by a kill").toBeGreaterThanOrEqual(KILLS);
  });
});

/** Clients that store one memory after another and retry failures with the same id on the next server. */
function startLoad(first: ServerProcess, contentOf: (index: number) => string) {
  const stored = new Map<string, Stored>();
  let current = first;
  let replaced = Promise.withResolvers<void>();
  let enough: { readonly size: number; readonly resolve: () => void } | undefined;
  let started = 0;
  let repeated = 0;
  let stopping = false;

  async function storeUntilStopped(): Promise<void> {
    let server = current;
    let connection = openGrpcClient(server.url);
    while (!stopping) {
      const id = uuidv7();
      const content = contentOf(started++);
      for (;;) {
        try {
          const { memory } = await connection.client.store({ id, content, domain: DOMAIN });
          stored.set(id, { content, ready: memory?.embedding?.state === Memory_Embedding_State.READY });
          break;
        } catch (error) {
          if (!isConnectionLost(error)) throw error;
          repeated++;
          connection.close();
          if (server === current) await replaced.promise;
          server = current;
          connection = openGrpcClient(server.url);
        }
      }
      if (enough !== undefined && stored.size >= enough.size) enough.resolve();
    }
    connection.close();
  }

  const done = Promise.all(Array.from({ length: CLIENTS }, storeUntilStopped));
  done.catch(() => {});
  return {
    stored,
    repeated: () => repeated,
    /** Resolves after `more` further acknowledgements. */
    async acknowledges(more: number): Promise<void> {
      const { promise, resolve } = Promise.withResolvers<void>();
      enough = { size: stored.size + more, resolve };
      await Promise.race([promise, done]);
    },
    use(server: ServerProcess) {
      current = server;
      replaced.resolve();
      replaced = Promise.withResolvers();
    },
    /** Resolves when every memory that was started is acknowledged. */
    async stop(): Promise<void> {
      stopping = true;
      await done;
    },
  };
}

/** Returns every memory of the domain. @throws if one appears twice */
async function readAll(client: GrpcClient): Promise<Map<string, Stored>> {
  const found = new Map<string, Stored>();
  const stream = client.streamSearch({
    query: COMMON_WORD,
    domain: DOMAIN,
    mode: SearchMode.TEXT,
    limit: 10_000,
  });
  for await (const { item } of stream) {
    if (item.case !== "hit" || item.value.memory === undefined) continue;
    const { id, content, embedding } = item.value.memory;
    if (found.has(id)) throw new Error(`memory ${id} appears twice`);
    found.set(id, { content, ready: embedding?.state === Memory_Embedding_State.READY });
  }
  return found;
}
