import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { ConnectRouter, Interceptor } from "@connectrpc/connect";
import * as node from "memory-service-client";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { describe, expect, test } from "vitest";
import { ServiceError } from "../../src/memory/model/errors.ts";
import { LIMITS } from "../../src/memory/model/limits.ts";
import { createErrorInterceptor } from "../../src/rpc/interceptors/errors.ts";
import { startListener } from "../../src/server/listener.ts";
import { cleanUp } from "../server/harness.ts";
import { openTcpProxy } from "../support/server/tcp-proxy.ts";
import { silentLogger } from "../support/silent-logger.ts";
import { rejection } from "./harness.ts";

const clientDirectory = new URL("../../gen/client/", import.meta.url);
/** The entry point for browsers. It has the same types as the one for Node. */
const web: typeof node = await import(new URL("web.ts", clientDirectory).href);

const runtimes = [
  ["gRPC on Node", node, "grpc"],
  ["Connect on Node", node, "connect"],
  ["gRPC-Web on Node", node, "grpc-web"],
  ["Connect over fetch", web, "connect"],
  ["gRPC-Web over fetch", web, "grpc-web"],
] as const;

const info = { item: { case: "info" as const, value: {} } };
const hit = { item: { case: "hit" as const, value: { memory: { id: "m1" } } } };
const summary = { item: { case: "summary" as const, value: { sent: 1 } } };

/**
 * Starts a server that has one memory and requires an API key. Fails the test if `expectNoConnections` is true and the
 * client leaves a connection open.
 */
async function startServer(expectNoConnections = true): Promise<string> {
  const routes = (router: ConnectRouter) =>
    router.service(MemoryService, {
      store: ({ id }) => ({ memory: { id } }),
      search: () => {
        const violations = [{ field: "limit", description: "must be from 1 to 1,000, got 0" }];
        throw new ServiceError("INVALID_ARGUMENT", "limit: must be from 1 to 1,000, got 0", { violations });
      },
      async *streamSearch() {
        yield* [info, hit, summary];
      },
    });
  const requireKey: Interceptor = (next) => async (request) => {
    if (request.header.get("authorization") === "Bearer key") return await next(request);
    throw new ServiceError("UNAUTHENTICATED", "no valid key");
  };
  const listener = await startListener({
    host: "127.0.0.1",
    port: 0,
    routes,
    interceptors: [createErrorInterceptor({ logger: silentLogger }), requireKey],
    maxMessageBytes: LIMITS.messageBytes,
    allowedHosts: [],
    allowedOrigins: [],
    readiness: async () => ({ ready: true, checks: {} }),
    shutdown: { graceMs: 1_000 },
    logger: silentLogger,
  });
  cleanUp(async () => {
    if (expectNoConnections) await expect.poll(() => listener.connectionCount()).toBe(0);
    await listener.close();
  });
  return listener.url;
}

describe.each(runtimes)("%s", (_, { createMemoryClient, MemoryServiceError }, protocol) => {
  /** Starts a server and a client that closes first. Only the Node client is checked: fetch keeps connections open. */
  async function connect(apiKey: string | undefined) {
    const baseUrl = await startServer(createMemoryClient === node.createMemoryClient);
    const client = createMemoryClient({ baseUrl, protocol, apiKey });
    cleanUp(() => client.close());
    return client;
  }

  test("stores, streams and returns complete errors", async () => {
    const client = await connect("key");
    const id = await client.storeMemory("a");
    expect(id).toMatch(/^mem_/);

    const hits = client.streamSearch({ query: "a" });
    for await (const hit of hits) expect(hit.memory?.id).toBe("m1");
    expect(hits.summary?.sent).toBe(1);

    const error = await rejection(client.searchMemories("a", "", 0));
    expect(error).toBeInstanceOf(MemoryServiceError);
    expect(error).toMatchObject({
      reason: "INVALID_ARGUMENT",
      violations: [{ field: "limit", description: "must be from 1 to 1,000, got 0" }],
      requestId: expect.stringMatching(/./),
    });
  });

  test("sends no credentials without an API key", async () => {
    const error = await rejection((await connect(undefined)).storeMemory("a"));
    expect(error).toMatchObject({ reason: "UNAUTHENTICATED" });
  });

  test("throws ConnectError from the generated clients", async () => {
    const { raw } = await connect("key");
    await expect(raw.memories.get({ id: "m1" })).rejects.toMatchObject({ name: "ConnectError" });
    expect(node.memoryServiceErrorFrom(await rejection(raw.memories.get({ id: "m1" })))).toMatchObject({
      reason: "NOT_IMPLEMENTED",
    });
  });

  test("retries after the connection is cut before the response", async () => {
    const proxy = await openTcpProxy(await startServer(false));
    cleanUp(() => proxy.close());
    proxy.cutAfter("cut after this");
    let tries = 0;
    const countTries: Interceptor = (next) => async (request) => {
      if (++tries === 3) proxy.accept();
      return await next(request);
    };
    const client = createMemoryClient({
      baseUrl: `http://127.0.0.1:${proxy.port}`,
      protocol,
      apiKey: "key",
      interceptors: [countTries],
      retry: { firstDelayMs: 0 },
    });
    cleanUp(() => client.close());
    expect(await client.storeMemory("cut after this")).toMatch(/^mem_/);
    expect(tries).toBe(3);
  });

  test("reports Unavailable if no server listens", async () => {
    const client = createMemoryClient({ baseUrl: "http://127.0.0.1:1", protocol, retry: { maxTries: 1 } });
    expect(await rejection(client.storeMemory("a"))).toMatchObject({
      code: node.Code.Unavailable,
      reason: undefined,
      requestId: undefined,
    });
  });
});

test("a Node process exits even if the client is not closed", async () => {
  const baseUrl = await startServer();
  const program = `
    import { createMemoryClient } from "memory-service-client";
    const client = createMemoryClient({ baseUrl: "${baseUrl}", apiKey: "key" });
    console.log((await client.storeMemory("a")).slice(0, 4));`;
  const cwd = fileURLToPath(new URL("../..", import.meta.url));
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { cwd, timeout: 10_000 });
  const [output] = await once(child.stdout.setEncoding("utf8"), "data");
  expect([output, await once(child, "exit")]).toEqual(["mem_\n", [0, null]]);
});

test.each([
  [node, {}, "baseUrl must be an http:// or https:// URL, got undefined"],
  [node, { baseUrl: "127.0.0.1:50051" }, "baseUrl must be an http:// or https:// URL, got 127.0.0.1:50051"],
  [
    node,
    { baseUrl: "http://x", protocol: "soap" },
    'protocol must be "grpc", "connect" or "grpc-web", got "soap"',
  ],
  [web, { baseUrl: "http://x", protocol: "soap" }, 'protocol must be "connect" or "grpc-web", got "soap"'],
  [web, { baseUrl: "http://x", protocol: "grpc" }, 'protocol "grpc" needs Node'],
])("%#: invalid options throw an error that names the option", ({ createMemoryClient }, options, message) => {
  expect(() => createMemoryClient(options as node.MemoryClientOptions)).toThrow(message);
});

test("the entry point for browsers imports nothing from Node", async () => {
  const packages = new Set<string>();
  const files = new Set([new URL("web.ts", clientDirectory).href]);
  for (const file of files) {
    const source = await readFile(new URL(file), "utf8");
    for (const [, specifier = ""] of source.matchAll(/(?:^|\n)(?:import|export)\b[^;]*?from "([^"]+)"/g)) {
      if (specifier.startsWith(".")) files.add(new URL(specifier, file).href);
      else packages.add(specifier);
    }
  }
  expect([...files].some((file) => file.endsWith("/memory_service_pb.js"))).toBe(true);
  expect([...packages].toSorted()).toEqual([
    "@bufbuild/protobuf",
    "@bufbuild/protobuf/codegenv2",
    "@bufbuild/protobuf/wire",
    "@bufbuild/protobuf/wkt",
    "@connectrpc/connect",
    "@connectrpc/connect-web",
  ]);
});
