import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { SearchMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import pg from "pg";
import { v7 as uuidv7 } from "uuid";
import { describe, expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { ErrorInfoSchema, RetryInfoSchema } from "../../src/generated/google/rpc/error_details_pb.ts";
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../src/generated/grpc/health/v1/health_pb.ts";
import { startNativePostgres } from "../support/postgres/native-postgres.ts";
import { postgresServers, serverEngines } from "../support/server/server-engines.ts";
import { openGrpcClient, startServerProcess } from "../support/server/server-process.ts";

const CLIENTS = 6;
const DOMAIN = "restart";
/** Part of every content, so that one search finds all memories. */
const COMMON_WORD = "harbour";
const RECOVERY_MS = 5_000;

describe.each(serverEngines())("on $name", ({ create }) => {
  test("a server whose database answers is ready, with and without an embedder", {
    timeout: 120_000,
  }, async () => {
    await using ollama = await startFakeOllama();
    await ollama.down();
    await using data = await create();
    await using server = await startServerProcess({ env: { ...data.env, OLLAMA_API_URL: ollama.url } });
    using health = startHealthMonitor(server.url);
    using embedder = startHealthMonitor(server.url, "embedder");
    await health.becomes(ServingStatus.SERVING);
    await embedder.becomes(ServingStatus.NOT_SERVING);
    const readiness = () => fetch(`${server.url}/readyz`).then((response) => response.json());
    expect(await readiness()).toMatchObject({
      ready: true,
      checks: { database: { ok: true }, embedder: { ok: false } },
    });

    await ollama.up();
    await embedder.becomes(ServingStatus.SERVING);
    expect(await readiness()).toMatchObject({ ready: true, checks: { embedder: { ok: true } } });
  });
});

describe.each(postgresServers())("on $name", () => {
  test("a server survives a crash of PostgreSQL under load and serves within 5 s of its return", {
    timeout: 120_000,
  }, async () => {
    await using postgres = await startNativePostgres("restart");
    await using ollama = await startFakeOllama();
    await using server = await startServerProcess({
      env: { DATABASE_URL: postgres.url, OLLAMA_API_URL: ollama.url },
    });
    using health = startHealthMonitor(server.url);
    await health.becomes(ServingStatus.SERVING);
    const load = startLoad(server.url);
    await load.acknowledges(200);

    await postgres.stopAtOnce();
    await load.fails(CLIENTS);
    await health.becomes(ServingStatus.NOT_SERVING);
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503);
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);

    const [acceptedAt, succeededAt] = await Promise.all([
      whenAccepting(postgres.url),
      load.acknowledges(1).then(() => performance.now()),
      postgres.start(),
    ]);
    console.log(`served ${Math.round(succeededAt - acceptedAt)} ms after PostgreSQL accepted connections`);
    expect(succeededAt - acceptedAt).toBeLessThan(RECOVERY_MS);
    await health.becomes(ServingStatus.SERVING);
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
    await load.acknowledges(200);
    await load.stop();

    const found = await readIds(server.url);
    expect(
      [...load.stored].filter((id) => !found.includes(id)),
      "acknowledged but missing",
    ).toEqual([]);
    expect(found.length, "found without a store, or twice").toBe(load.stored.size);
    expect(load.failures.filter((failure) => failure !== "unavailable, retry")).toEqual([]);
    expect(server.logs.filter((line) => line.msg === "serving")).toHaveLength(1);
  });
});

/** Clients that store one memory after another. Each retries with the same id after the delay the server asked for. */
function startLoad(url: string) {
  const stored = new Set<string>();
  const failures: string[] = [];
  const watchers = new Set<() => void>();
  let stopping = false;

  async function storeUntilStopped(): Promise<void> {
    using connection = openGrpcClient(url);
    while (!stopping) {
      const id = uuidv7();
      for (let acknowledged = false; !acknowledged; ) {
        try {
          await connection.client.store({ id, content: `${COMMON_WORD} ${id}`, domain: DOMAIN });
          await connection.client.search({ query: COMMON_WORD, domain: DOMAIN });
          stored.add(id);
          acknowledged = true;
        } catch (error) {
          const { failure, retryAfterMs } = describeFailure(error);
          failures.push(failure);
          await sleep(retryAfterMs);
        }
        for (const look of watchers) look();
      }
    }
  }

  const until = async (holds: () => boolean): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = () => holds() && resolve();
    watchers.add(look);
    await Promise.race([promise, done]);
    watchers.delete(look);
  };
  const done = Promise.all(Array.from({ length: CLIENTS }, storeUntilStopped));
  done.catch(() => {});
  return {
    stored,
    failures,
    /** Resolves after `more` further acknowledgements. */
    async acknowledges(more: number): Promise<void> {
      const size = stored.size + more;
      await until(() => stored.size >= size);
    },
    /** Resolves after `more` further failures. */
    async fails(more: number): Promise<void> {
      const length = failures.length + more;
      await until(() => failures.length >= length);
    },
    async stop(): Promise<void> {
      stopping = true;
      await done;
    },
  };
}

function describeFailure(error: unknown): { readonly failure: string; readonly retryAfterMs: number } {
  const failed = ConnectError.from(error);
  const [info] = failed.findDetails(ErrorInfoSchema);
  const [retry] = failed.findDetails(RetryInfoSchema);
  const expected = ["DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN"].includes(info?.reason ?? "");
  if (failed.code !== Code.Unavailable || !expected || retry?.retryDelay === undefined) {
    return { failure: `${failed.message} (${info?.reason})`, retryAfterMs: 100 };
  }
  const { seconds, nanos } = retry.retryDelay;
  return { failure: "unavailable, retry", retryAfterMs: Number(seconds) * 1_000 + nanos / 1_000_000 };
}

/** The time at which the server first accepts a direct connection. */
async function whenAccepting(url: string): Promise<number> {
  for (;;) {
    const client = new pg.Client({ connectionString: url });
    client.on("error", () => {});
    try {
      await client.connect();
      return performance.now();
    } catch {
      await sleep(10);
    } finally {
      await client.end().catch(() => {});
    }
  }
}

function startHealthMonitor(baseUrl: string, service = "") {
  const leave = new AbortController();
  const statuses: AsyncIterator<{ readonly status: ServingStatus }> = createClient(
    Health,
    createGrpcTransport({ baseUrl }),
  )
    .watch({ service }, { signal: leave.signal })
    [Symbol.asyncIterator]();
  return {
    async becomes(status: ServingStatus): Promise<void> {
      for (;;) {
        const next = await statuses.next();
        if (next.done) throw new Error("the health service has ended the watch");
        if (next.value.status === status) return;
      }
    },
    [Symbol.dispose]: () => leave.abort(),
  };
}

async function readIds(url: string): Promise<string[]> {
  using connection = openGrpcClient(url);
  const request = { query: COMMON_WORD, domain: DOMAIN, mode: SearchMode.TEXT, limit: 10_000 };
  const ids: string[] = [];
  for await (const { item } of connection.client.streamSearch(request)) {
    if (item.case === "hit") ids.push(item.value.memory?.id ?? "");
  }
  return ids;
}
