import { Code, ConnectError } from "@connectrpc/connect";
import {
  SearchMode,
  type StreamSearchResponse,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { describe, expect, test, vi } from "vitest";
import { ErrorInfoSchema } from "../../src/generated/google/rpc/error_details_pb.ts";
import { collect, restOf } from "../support/collect.ts";
import { serverEngines } from "../support/server/server-engines.ts";
import {
  type GrpcClient,
  openGrpcClient,
  type ServerProcess,
  startServerProcess,
} from "../support/server/server-process.ts";
import { storeMany } from "../support/store-many.ts";

vi.setConfig({ testTimeout: 120_000 });

const DOMAIN = "stopping";
/** Together larger than the buffers between a server and a client that does not read. */
const MEMORIES = 150;
const CONTENT_BYTES = 20_000;

describe.each(serverEngines())("on $name", ({ create }) => {
  test("SIGTERM right after the server starts serving ends the process with exit code 0", async () => {
    await using data = await create({ empty: true });
    for (let start = 0; start < 3; start++) {
      await using server = await startServerProcess({ env: data.env });
      expect(await server.stop()).toEqual({ code: 0, signal: null });
      expectCleanLog(server);
    }
  });

  test("SIGTERM lets an active stream finish before the process ends with exit code 0", async () => {
    await using data = await create();
    await using server = await startServerProcess({ env: data.env });
    using connection = openGrpcClient(server.url);
    await storeAll(connection.client);
    const stream = await beginStream(connection.client);

    const exited = server.stop();
    await server.whenLogged((line) => line.msg === "stopping");
    await expect(fetch(`${server.url}/livez`)).rejects.toThrow();
    const rest = await collect(restOf(stream));
    expect(rest.at(-1)?.item).toMatchObject({ case: "summary", value: { sent: MEMORIES } });
    expect(await exited).toEqual({ code: 0, signal: null });
    expectCleanLog(server);

    // The data directory is unlocked and complete.
    await using next = await startServerProcess({ env: data.env });
    using again = openGrpcClient(next.url);
    const answers = await collect(again.client.streamSearch(everything));
    expect(answers.at(-1)?.item).toMatchObject({ case: "summary", value: { sent: MEMORIES } });
  });

  test("a stream whose consumer has stopped is cut after the grace period, and the exit code is 0", async () => {
    await using data = await create();
    await using server = await startServerProcess({ env: { ...data.env, MEMORY_SHUTDOWN_GRACE_MS: "300" } });
    using connection = openGrpcClient(server.url);
    await storeAll(connection.client);
    const stream = await beginStream(connection.client);

    expect(await server.stop()).toEqual({ code: 0, signal: null });
    expectCleanLog(server);
    const error = await collect(restOf(stream)).then(() => undefined, ConnectError.from);
    expect(error, "the stream must end with an error").toBeDefined();
    const [info] = error?.findDetails(ErrorInfoSchema) ?? [];
    if (info !== undefined) expect([error?.code, info.reason]).toEqual([Code.Unavailable, "SHUTTING_DOWN"]);
  });
});

const everything = { query: "harbour", domain: DOMAIN, mode: SearchMode.TEXT, limit: 10_000 };

async function storeAll(client: GrpcClient): Promise<void> {
  // Long contents with few distinct words: distinct words make storing slow.
  await storeMany(client, DOMAIN, MEMORIES, (index) => `harbour ${index} `.padEnd(CONTENT_BYTES, "~ "));
}

/** A stream that has been read up to its first hit. */
async function beginStream(client: GrpcClient): Promise<AsyncIterator<StreamSearchResponse>> {
  const stream = client.streamSearch(everything)[Symbol.asyncIterator]();
  expect((await stream.next()).value?.item.case).toBe("info");
  expect((await stream.next()).value?.item.case).toBe("hit");
  return stream;
}

function expectCleanLog(server: ServerProcess): void {
  expect(server.logs.at(-1)?.msg).toBe("stopped");
  const error = 50;
  expect(server.logs.filter(({ level }) => Number(level) >= error)).toEqual([]);
  expect(server.stderr()).toBe("");
}
