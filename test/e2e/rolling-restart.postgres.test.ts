import { createMemoryClient, createMemoryId, type MemoryClient } from "memory-service-client";
import { Memory_Embedding_State as State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { SearchMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { describe, expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { postgresServers } from "../support/server/server-engines.ts";
import { type ServerProcess, startServerProcess } from "../support/server/server-process.ts";
import { openTcpBalancer } from "../support/server/tcp-balancer.ts";

const DOMAIN = "rolling";
/** Part of every content, so that one search finds all memories. */
const WORD = "harbour";
/** Stores acknowledged between two restarts. */
const STORES_BETWEEN = 40;

describe.each(postgresServers())("on $name", ({ create }) => {
  test("restarting two servers in turn under load loses no call of clients that retry", {
    timeout: 120_000,
  }, async () => {
    await using ollama = await startFakeOllama();
    await using data = await create();
    const env = { ...data.env, OLLAMA_API_URL: ollama.url };
    const servers = [await startServerProcess({ env }), await startServerProcess({ env })];
    await using _running = { [Symbol.asyncDispose]: () => killAll(servers) };
    await using balancer = await openTcpBalancer(servers.map(({ port }) => port));

    const load = startLoad(
      (["grpc", "grpc", "connect", "grpc-web"] as const).map((protocol) =>
        createMemoryClient({ baseUrl: balancer.url, protocol }),
      ),
    );
    await load.acknowledges(STORES_BETWEEN);
    for (const [at, server] of servers.entries()) {
      expect(await server.stop()).toEqual({ code: 0, signal: null });
      await load.acknowledges(STORES_BETWEEN);
      servers[at] = await startServerProcess({ env: { ...env, MEMORY_PORT: String(server.port) } });
      await load.acknowledges(STORES_BETWEEN);
    }
    const stored = await load.stop();

    const client = createMemoryClient({ baseUrl: balancer.url });
    const found: string[] = [];
    const all = { query: WORD, domain: DOMAIN, mode: SearchMode.TEXT, limit: 10_000 };
    for await (const { memory } of client.streamSearch(all)) found.push(memory?.id ?? "");
    client.close();
    expect(found.sort()).toEqual(stored.sort());
  });

  test("another server embeds what a stopped server has left pending", {
    timeout: 60_000,
  }, async () => {
    await using stuck = await startFakeOllama();
    await using ollama = await startFakeOllama();
    await using data = await create();
    const options = { ...data.env, MEMORY_EMBED_BUDGET_MS: "0" };
    await using first = await startServerProcess({ env: { ...options, OLLAMA_API_URL: stuck.url } });
    await using second = await startServerProcess({ env: { ...options, OLLAMA_API_URL: ollama.url } });
    for (const server of [first, second])
      await server.whenLogged(({ msg }) => msg?.endsWith("is ready") ?? false);

    stuck.faults.enqueue({ kind: "hang", phase: "answer", match: { path: "/api/embed" }, times: 1_000 });
    const ids: string[] = [];
    const toFirst = createMemoryClient({ baseUrl: first.url });
    for (let i = 0; i < 10; i++) ids.push(await toFirst.storeMemory(`the ${WORD} ${i}`));
    const toSecond = createMemoryClient({ baseUrl: second.url });
    const states = async () =>
      await Promise.all(
        ids.map(async (id) => (await toSecond.raw.memories.get({ id })).memory?.embedding?.state),
      );
    expect(new Set(await states())).toEqual(new Set([State.PENDING]));
    const stoppedAt = performance.now();
    await first.stop();
    while ((await states()).some((state) => state !== State.READY));
    console.log(`embedded ${Math.round(performance.now() - stoppedAt)} ms after the stop began`);
    toFirst.close();
    toSecond.close();
  });
});

async function killAll(servers: readonly ServerProcess[]): Promise<void> {
  await Promise.all(servers.map((server) => server.kill()));
}

/** Clients that store and search until stopped; the first call that fails after all its retries fails the load. */
function startLoad(clients: readonly MemoryClient[]) {
  const stored: string[] = [];
  const watchers = new Set<() => void>();
  let stopping = false;

  async function work(client: MemoryClient): Promise<void> {
    while (!stopping) {
      const id = createMemoryId();
      const { memory } = await client.store({ id, content: `${WORD} ${id}`, domain: DOMAIN });
      stored.push(memory?.id ?? "");
      await client.search({ query: id, domain: DOMAIN });
      for (const look of watchers) look();
    }
    client.close();
  }

  const done = Promise.all(clients.map(work));
  done.catch(() => {});
  return {
    /** Resolves after `more` further stores. */
    async acknowledges(more: number): Promise<void> {
      const size = stored.length + more;
      const { promise, resolve } = Promise.withResolvers<void>();
      const look = () => stored.length >= size && resolve();
      watchers.add(look);
      await Promise.race([promise, done]);
      watchers.delete(look);
    },
    /** Returns the ids of all stored memories. */
    async stop(): Promise<string[]> {
      stopping = true;
      await done;
      return stored;
    },
  };
}
