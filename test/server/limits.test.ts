import { once } from "node:events";
import http2 from "node:http2";
import { gzipSync } from "node:zlib";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createClient,
  type HandlerContext,
  type Transport,
} from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  type GrpcTransportOptions,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { describe, expect, test, vi } from "vitest";
import { fieldBlock, frame, frameTypes, preface } from "../../qa/fuzz/kinds/http2-frames.ts";
import { ErrorInfoSchema, RetryInfoSchema } from "../../src/generated/google/rpc/error_details_pb.ts";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { createCallLimiter } from "../../src/server/call-limit.ts";
import {
  cleanUp,
  grpcTransport,
  openSocket,
  send,
  sendJson,
  startTestListener,
  transports,
} from "./harness.ts";

const maxMessageBytes = 100_000;

const start = (check: () => object = () => ({ status: 1 }), timeouts = {}) =>
  startTestListener(({ service }) => void service(Health, { check }), { maxMessageBytes, timeouts });

test.each(Object.entries(transports))(
  "%s: a message over the limit is ResourceExhausted",
  async (_, transport) => {
    const check = vi.fn(() => ({}));
    const listener = await start(check);
    const client = createClient(Health, transport(listener.url));
    const error = await client.check({ service: "x".repeat(maxMessageBytes) }).catch(ConnectError.from);
    expect(error).toMatchObject({ code: Code.ResourceExhausted });
    expect(check).not.toHaveBeenCalled();
    expect((await client.check({ service: "x".repeat(maxMessageBytes - 20) })).$typeName).toBeDefined();
    const line = await listener.find(({ message }) => message === "call");
    expect(line.fields.code).toBe("resource_exhausted");
  },
);

test("a message that is over the limit once decompressed is ResourceExhausted", async () => {
  const listener = await start();
  const session = new Http2SessionManager(listener.url);
  cleanUp(() => session.abort());
  const transport = createGrpcTransport({
    baseUrl: listener.url,
    sessionManager: session,
    sendCompression: compressionGzip,
  });
  const error = await createClient(Health, transport)
    .check({ service: "x".repeat(50_000_000) })
    .catch(ConnectError.from);
  expect(error).toMatchObject({ code: Code.ResourceExhausted });
});

test("a Connect body that is over the limit once decompressed is ResourceExhausted", async () => {
  const listener = await start();
  const answer = await send(`${listener.url}/grpc.health.v1.Health/Check`, {
    headers: { "content-type": "application/json", "content-encoding": "gzip" },
    body: gzipSync(JSON.stringify({ service: "x".repeat(50_000_000) })),
  });
  expect(answer.status).toBe(429);
});

test("an HTTP/1.1 body without a length is answered too, not reset", async () => {
  const listener = await start();
  const answer = await send(`${listener.url}/grpc.health.v1.Health/Check`, {
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ service: "x".repeat(20_000_000) }),
    chunked: true,
  });
  expect(answer.status).toBe(429);
  expect(JSON.parse(answer.text)).toMatchObject({ code: "resource_exhausted" });
});

test("disconnects an HTTP/1.1 client that keeps sending after its response", async () => {
  const listener = await start();
  const socket = await openSocket(listener);
  socket.write(
    "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: localhost\r\n" +
      "content-type: application/json\r\ncontent-length: 1000000\r\n\r\n{",
  );
  let answer = "";
  for await (const chunk of socket) answer += chunk;
  expect(answer).toMatch(/^HTTP\/1.1 429 /);
});

test("an HTTP/1.1 client that ends its request only after its answer keeps its connection", async () => {
  // A stream in the other direction, too, whose reading waits for more when the answer has been sent.
  const routes = ({ service }: ConnectRouter) =>
    void service(MemoryService, {
      import: async (requests) => {
        for await (const _ of requests) break;
        return {};
      },
    });
  const listener = await startTestListener(routes);
  const socket = await openSocket(listener);
  const message = Buffer.from([0, 0, 0, 0, 0]);
  socket.write(
    "POST /memoryservice.v1.MemoryService/Import HTTP/1.1\r\nhost: localhost\r\n" +
      "content-type: application/connect+proto\r\ncontent-length: 10\r\n\r\n",
  );
  socket.write(message);
  const [answer] = await once(socket, "data");
  expect(String(answer)).toMatch(/^HTTP\/1.1 200 /);
  socket.write(message);
  const lingering = once(socket, "close", { signal: AbortSignal.timeout(2_500) });
  await expect(lingering).rejects.toThrow(/abort/);
  socket.write("GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
  let next = "";
  for await (const chunk of socket) next += chunk;
  expect(next).toContain("HTTP/1.1 200 ");
});

test("a gRPC client that keeps sending after its response loses its stream, not its connection", async () => {
  const listener = await start();
  const session = http2.connect(listener.url);
  cleanUp(() => session.destroy());
  const open = () =>
    session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
    });
  const stream = open();
  stream.write(Buffer.concat([Buffer.from([0, 0xff, 0xff, 0xff, 0xff]), Buffer.alloc(10_000)]));
  const closed = Promise.withResolvers<void>();
  const trailers = Promise.withResolvers<http2.IncomingHttpHeaders>();
  stream.on("trailers", trailers.resolve).on("close", closed.resolve).resume();
  expect(await trailers.promise).toMatchObject({ "grpc-status": "8" });
  await closed.promise;
  const next = open();
  const nextTrailers = Promise.withResolvers<http2.IncomingHttpHeaders>();
  next.on("trailers", nextTrailers.resolve).resume();
  next.end(Buffer.alloc(5));
  expect(await nextTrailers.promise).toMatchObject({ "grpc-status": "0" });
});

test("a response over the limit is an error too", async () => {
  const listener = await startTestListener(
    ({ service }) =>
      void service(Health, { list: () => ({ statuses: { ["x".repeat(maxMessageBytes)]: { status: 1 } } }) }),
    { maxMessageBytes },
  );
  const answer = await sendJson(`${listener.url}/grpc.health.v1.Health/List`, "{}");
  expect(JSON.parse(answer.text)).toMatchObject({ code: "resource_exhausted" });
});

test.each([
  [
    "a message above the limit",
    Buffer.concat([Buffer.from([0, 0xff, 0xff, 0xff, 0xff]), Buffer.alloc(300_000)]),
  ],
  ["more than a message", Buffer.concat([Buffer.alloc(5), Buffer.alloc(300_000, 1)])],
  [
    "a compression that is not known",
    Buffer.concat([Buffer.from([1, 0, 0, 0xc3, 0x50]), Buffer.alloc(300_000)]),
  ],
])("unread request data does not keep an HTTP/2 connection open: %s", async (_name, body) => {
  const listener = await start();
  const session = http2.connect(listener.url);
  cleanUp(() => session.destroy());
  // Sent in pieces, so that some arrive before the refusal and some after it.
  for (const pieces of [1, 3, 20]) {
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const closed = once(stream, "close");
    stream.on("error", () => undefined).resume();
    for (let piece = 0; piece < pieces; piece++) {
      const [from, to] = [piece, piece + 1].map((n) => Math.floor((body.length * n) / pieces));
      stream.write(body.subarray(from, to));
      await new Promise((resolve) => setImmediate(resolve));
    }
    stream.end();
    await closed;
  }
  // A graceful close waits for open streams, and none is open.
  session.close();
  await expect.poll(() => listener.connectionCount()).toBe(0);
});

test("half a request is never handled, though its first half is a valid message", async () => {
  const check = vi.fn(() => ({}));
  const listener = await start(check);
  const session = http2.connect(listener.url);
  cleanUp(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": "/grpc.health.v1.Health/Check",
    "content-type": "application/proto",
  });
  stream.on("error", () => undefined);
  stream.write(Buffer.from([0x0a, 1, 0x61]), () => stream.close(http2.constants.NGHTTP2_CANCEL));
  const line = await listener.find(({ message }) => message === "call");
  expect(line.fields.code).toBe("canceled");
  expect(check).not.toHaveBeenCalled();
});

test("an unknown JSON field is refused", async () => {
  const check = vi.fn(() => ({}));
  const listener = await start(check);
  const answer = await sendJson(
    `${listener.url}/grpc.health.v1.Health/Check`,
    '{"service":"x","dry_rnu":true}',
  );
  expect(JSON.parse(answer.text)).toMatchObject({
    code: "invalid_argument",
    message: expect.stringContaining("dry_rnu"),
  });
  expect(check).not.toHaveBeenCalled();
});

test.each([
  ["grpc-timeout", "99999999H", "application/grpc-web+proto"],
  ["grpc-timeout", "36000M", "application/grpc-web+proto"],
  ["grpc-timeout", "2147484S", "application/grpc-web+proto"],
  ["connect-timeout-ms", "2147483648", "application/proto"],
])("a deadline further away than timers can wait is none: %s %s", async (name, value, contentType) => {
  const check = vi.fn((_request: unknown, context: HandlerContext) => {
    expect(context.timeoutMs()).toBeUndefined();
    return {};
  });
  const warned = vi.fn();
  process.on("warning", warned);
  cleanUp(() => void process.off("warning", warned));
  const listener = await startTestListener(({ service }) => void service(Health, { check }));
  const answer = await send(`${listener.url}/grpc.health.v1.Health/Check`, {
    headers: { "content-type": contentType, [name]: value },
    body: new Uint8Array(contentType.includes("grpc") ? 5 : 0),
  });
  expect(answer.status).toBe(200);
  expect(check).toHaveReturned();
  expect(warned).not.toHaveBeenCalled();
});

test.each([
  ["grpc-timeout", "596H", "application/grpc-web+proto", 596 * 3_600_000],
  ["connect-timeout-ms", "2147483647", "application/proto", 2_147_483_647],
])("a deadline that timers can wait for is kept: %s %s", async (name, value, contentType, milliseconds) => {
  let leftMs: number | undefined;
  const listener = await startTestListener(
    ({ service }) =>
      void service(Health, {
        check: (_request, context) => {
          leftMs = context.timeoutMs();
          return {};
        },
      }),
  );
  await send(`${listener.url}/grpc.health.v1.Health/Check`, {
    headers: { "content-type": contentType, [name]: value },
    body: new Uint8Array(contentType.includes("grpc") ? 5 : 0),
  });
  expect(milliseconds - (leftMs ?? 0)).toBeLessThan(60_000);
});

test.each(["soon", "-1", "99999999999"])("a deadline that is none is InvalidArgument: %s", async (value) => {
  const listener = await startTestListener(({ service }) => void service(Health, { check: () => ({}) }));
  const refused = await sendJson(`${listener.url}/grpc.health.v1.Health/Check`, "{}", {
    "connect-timeout-ms": value,
  });
  expect(JSON.parse(refused.text)).toMatchObject({ code: "invalid_argument" });
});

test("a handler's signal ends at the deadline", async () => {
  const listener = await startTestListener(({ service }) => {
    service(Health, {
      check: (_request, { signal }) => {
        const { promise, reject } = Promise.withResolvers<never>();
        signal.addEventListener("abort", () => reject(signal.reason));
        return promise;
      },
    });
  });
  const answer = await sendJson(`${listener.url}/grpc.health.v1.Health/Check`, "{}", {
    "connect-timeout-ms": "20",
  });
  expect(JSON.parse(answer.text)).toMatchObject({ code: "deadline_exceeded" });
});

const http1Request = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

test.each([
  ["byte by byte", [...http1Request]],
  [
    "P, then the rest of a POST",
    ["P", "OST /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"],
  ],
  [
    "PR, then the rest of a PROPFIND",
    ["PR", "OPFIND /x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"],
  ],
  ["PRI in HTTP/1.1", ["PRI * HTTP/1", ".1\r\nhost: localhost\r\n\r\n"]],
])("understands HTTP/1.1 that arrives %s", async (_name, parts) => {
  const listener = await start();
  const socket = await openSocket(listener);
  socket.setNoDelay(true);
  for (const part of parts) {
    const { promise, resolve } = Promise.withResolvers<void>();
    socket.write(part, () => resolve());
    await promise;
    await new Promise(setImmediate);
  }
  let answer = "";
  for await (const chunk of socket) answer += chunk;
  expect(answer).toMatch(/^HTTP\/1.1 (200|404|400) /);
});

test("understands an HTTP/2 preface that arrives byte by byte", async () => {
  const listener = await start();
  const socket = await openSocket(listener);
  socket.setNoDelay(true);
  const emptySettings = "\0\0\0\x04\0\0\0\0\0";
  for (const byte of `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${emptySettings}`) {
    socket.write(byte, "latin1");
    await new Promise(setImmediate);
  }
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  socket.once("data", resolve);
  const settingsFrame = 4;
  expect((await promise)[3]).toBe(settingsFrame);
});

test.each([
  ["says nothing", ""],
  ["says P only", "P"],
  ["stops within the preface", "PRI * HTTP/2.0\r\n\r\nSM"],
])("disconnects a client that %s", async (_name, bytes) => {
  const listener = await start(undefined, { firstBytesMs: 50 });
  const socket = await openSocket(listener);
  socket.write(bytes);
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("close", () => resolve()).resume();
  await promise;
});

test("a client that is slow with its headers gets 408", async () => {
  const listener = await start(undefined, { headersMs: 50, requestMs: 100 });
  const socket = await openSocket(listener);
  socket.write("GET /livez HTTP/1.1\r\nhost: ");
  let answer = "";
  for await (const chunk of socket) answer += chunk;
  expect(answer).toMatch(/^HTTP\/1.1 408 /);
});

test.each([
  ["a Host that is no URL", "GET /livez HTTP/1.1\r\nhost: [\r\nconnection: close\r\n\r\n", 400],
  ["no Host in HTTP/1.1", "GET /livez HTTP/1.1\r\nconnection: close\r\n\r\n", 400],
  ["no Host in HTTP/1.0", "POST /grpc.health.v1.Health/Check HTTP/1.0\r\ncontent-length: 0\r\n\r\n", 400],
  ["no HTTP at all", "\x16\x03\x01\x02\x00\x01\r\n\r\n", 400],
  [
    "a path that is a URL elsewhere",
    "GET //evil.example/livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    404,
  ],
])("survives %s", async (_name, bytes, status) => {
  const listener = await start();
  const socket = await openSocket(listener);
  socket.write(bytes, "latin1");
  let answer = "";
  for await (const chunk of socket) answer += chunk;
  expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  expect((await send(`${listener.url}/livez`)).status).toBe(200);
});

test("an h2c upgrade is answered in HTTP/1.1", async () => {
  const listener = await start();
  const answer = await send(`${listener.url}/livez`, {
    headers: { connection: "Upgrade, HTTP2-Settings", upgrade: "h2c", "http2-settings": "AAMAAABkAAQAAP__" },
  });
  expect(answer.status).toBe(200);
});

describe("the number of calls", () => {
  const startBusy = async () => {
    const release = Promise.withResolvers<void>();
    const entered = Promise.withResolvers<void>();
    const listener = await startTestListener(
      ({ service }) => {
        service(Health, { check: () => ({ status: 1 }) });
        service(MemoryService, {
          async get(_request, { signal }) {
            const left = Promise.withResolvers<never>();
            signal.addEventListener("abort", () => left.reject(signal.reason));
            entered.resolve();
            await Promise.race([release.promise, left.promise]);
            return {};
          },
          list: () => ({}),
        });
      },
      { maxCalls: 1 },
    );
    return { listener, release: release.resolve, entered: entered.promise };
  };

  test.each(Object.entries(transports))(
    "%s: one too many is refused, and welcome later",
    async (_, transport) => {
      const { listener, release, entered } = await startBusy();
      const client = createClient(MemoryService, transport(listener.url));
      const running = client.get({});
      await entered;
      const refused = await client.list({}).then(() => undefined, ConnectError.from);
      expect(refused).toMatchObject({ code: Code.ResourceExhausted });
      expect(refused?.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "OVERLOADED" }]);
      expect(refused?.findDetails(RetryInfoSchema)).toHaveLength(1);
      expect((await createClient(Health, transport(listener.url)).check({})).status).toBe(1);
      release();
      await running;
      await expect
        .poll(() =>
          client.list({}).then(
            () => true,
            () => false,
          ),
        )
        .toBe(true);
    },
  );

  test("of streams that watch health has no effect on probes", async () => {
    const listener = await startTestListener(
      ({ service }) => {
        service(Health, {
          check: () => ({ status: 1 }),
          async *watch(_request, { signal }) {
            yield { status: 1 };
            await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
          },
        });
      },
      { maxCalls: 1 },
    );
    const client = createClient(Health, grpcTransport(listener.url));
    const leaving = new AbortController();
    const watching = client.watch({}, { signal: leaving.signal })[Symbol.asyncIterator]();
    await watching.next();
    const another = client.watch({})[Symbol.asyncIterator]();
    expect(await another.next().catch(ConnectError.from)).toMatchObject({ code: Code.ResourceExhausted });
    expect((await client.check({})).status).toBe(1);
    leaving.abort();
    await watching.next().catch(() => undefined);
  });

  test("does not count a caller that has left", async () => {
    const { listener, entered } = await startBusy();
    const transport = transports["gRPC over HTTP/2"];
    if (transport === undefined) throw new Error("no such transport");
    const client = createClient(MemoryService, transport(listener.url));
    const leaving = new AbortController();
    const running = client.get({}, { signal: leaving.signal }).catch(ConnectError.from);
    await entered;
    leaving.abort();
    await running;
    await expect
      .poll(() =>
        client.list({}).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
  });
});

test("requests that together are too large are refused, until others have ended", () => {
  const limiter = createCallLimiter({ maxCalls: 10, maxRequestBytes: 100, maxBytesPerCall: 60 });
  const enter = () => {
    const slot = limiter.enter("work");
    if (slot instanceof Error) throw slot;
    return slot;
  };
  const first = enter();
  const second = enter();
  for (let sent = 0; sent < 1_000; sent += 30) first.hold(30);
  second.hold(40);
  expect(() => second.hold(1)).toThrow(expect.objectContaining({ reason: "OVERLOADED", retryAfterMs: 500 }));
  first.leave();
  second.hold(20);
  second.leave();
  for (const slot of [enter(), enter()]) slot.hold(50);
});

test.each<[string, (options: GrpcTransportOptions) => Transport]>([
  ["Connect", (options) => createConnectTransport({ ...options, httpVersion: "2" })],
  ["gRPC-Web", (options) => createGrpcWebTransport({ ...options, httpVersion: "2" })],
  ["gRPC", createGrpcTransport],
])("%s: of requests that together are too large, what they are decompressed to counts", async (_, create) => {
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const { promise: entered, resolve: enter } = Promise.withResolvers<void>();
  const listener = await startTestListener(
    ({ service }) =>
      void service(MemoryService, {
        async store() {
          enter();
          await ended;
          return {};
        },
      }),
    { maxRequestBytes: 3_000_000 },
  );
  const sessionManager = new Http2SessionManager(listener.url);
  cleanUp(() => sessionManager.abort());
  const options = { baseUrl: listener.url, sessionManager, sendCompression: compressionGzip };
  const client = createClient(MemoryService, create(options));
  const content = "x".repeat(2_000_000);
  const first = client.store({ content });
  await entered;
  const second = await client.store({ content }).catch(ConnectError.from);
  expect(second).toMatchObject({ code: Code.ResourceExhausted });
  end();
  await first;
  await client.store({ content });
});

test.each([
  ["that waits for 100", { expect: "100-continue" }],
  ["with another expectation", { expect: "a miracle" }],
  ["of a tunnel", { ":method": "CONNECT", ":scheme": undefined, ":path": undefined }],
  ["as usual", {}],
])("a request %s that is reset before the server handles it does no harm", async (_, changes) => {
  const listener = await start();
  const head: Readonly<Record<string, string | undefined>> = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/grpc.health.v1.Health/Check",
    ":authority": "localhost",
    "content-type": "application/grpc",
    ...changes,
  };
  const fields = Object.entries(head).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value] as const],
  );
  const socket = await openSocket(listener);
  socket.write(
    Buffer.concat([
      preface,
      frame(frameTypes.settings, 0, 0),
      frame(frameTypes.headers, 4, 1, fieldBlock(fields)),
      frame(frameTypes.reset, 0, 1, Buffer.from([0, 0, 0, 8])),
      frame(frameTypes.ping, 0, 0, Buffer.alloc(8)),
    ]),
  );
  // Any answer to the ping comes after the server has handled the request.
  await once(socket, "data");
  expect((await send(`${listener.url}/livez`)).status).toBe(200);
});

describe("a response that the client does not read", () => {
  test.each([
    ["that of a probe", { ":path": "/livez" }],
    [
      "the refusal of a stream",
      {
        ":method": "POST",
        ":path": "/memoryservice.v1.MemoryService/StreamSearch",
        ":authority": "elsewhere.example",
        "content-type": "application/connect+json",
      },
    ],
  ])("is cut: %s", async (_, headers) => {
    const listener = await startTestListener(
      ({ service }) => void service(MemoryService, { async *streamSearch() {} }),
      { bodyTimeouts: { requestMs: 50, streamMs: 50 } },
    );
    const session = http2.connect(listener.url, { settings: { initialWindowSize: 0 } });
    cleanUp(() => session.destroy());
    const stream = session.request(headers);
    stream.resume().end();
    await once(stream, "close");
    expect(stream.rstCode).toBe(http2.constants.NGHTTP2_CANCEL);
  });
});

describe("a request that does not arrive", () => {
  const startWaiting = () =>
    startTestListener(({ service }) => void service(Health, { check: () => ({ status: 1 }) }), {
      bodyTimeouts: { requestMs: 50, streamMs: 50 },
    });

  test("over HTTP/2 is answered, and its stream closed", async () => {
    const listener = await startWaiting();
    const session = http2.connect(listener.url);
    cleanUp(() => session.destroy());
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const trailers = Promise.withResolvers<http2.IncomingHttpHeaders>();
    const closed = Promise.withResolvers<void>();
    stream.on("trailers", trailers.resolve).on("close", closed.resolve).resume();
    stream.write(Buffer.from([0, 0, 0, 0, 9, 1]));
    expect(await trailers.promise).toMatchObject({ "grpc-status": String(Code.DeadlineExceeded) });
    await closed.promise;
  });

  test("over HTTP/1.1 is answered, and its connection closed", async () => {
    const listener = await startWaiting();
    const socket = await openSocket(listener);
    socket.write(
      "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: localhost\r\n" +
        "content-type: application/json\r\ncontent-length: 100\r\n\r\n{",
    );
    let answer = "";
    for await (const chunk of socket) answer += chunk;
    expect(answer).toMatch(/^HTTP\/1.1 504 [\s\S]*deadline_exceeded/);
  });
});

test("one address cannot use all connections", async () => {
  const listener = await start();
  const sockets = await Promise.all(Array.from({ length: 450 }, () => openSocket(listener)));
  await expect.poll(() => listener.connectionCount()).toBe(450);
  const dropped = await openSocket(listener);
  const closed = Promise.withResolvers<void>();
  dropped.once("close", () => closed.resolve()).resume();
  await closed.promise;
  expect(listener.connectionCount()).toBe(450);
  await listener.find(({ message }) => message === "too many connections; new ones are dropped");
  sockets[0]?.destroy();
  await expect.poll(() => listener.connectionCount()).toBe(449);
  expect((await send(`${listener.url}/livez`)).status).toBe(200);
});

test("an HTTP/2 connection without a call is closed after a while, one with a call is not", async () => {
  const end = Promise.withResolvers<void>();
  const listener = await startTestListener(
    ({ service }) =>
      void service(Health, {
        async *watch() {
          yield { status: 1 };
          await end.promise;
        },
      }),
    { timeouts: { idleSessionMs: 100 } },
  );
  const session = new Http2SessionManager(listener.url);
  cleanUp(() => session.abort());
  const client = createClient(
    Health,
    createGrpcTransport({ baseUrl: listener.url, sessionManager: session }),
  );
  const stream = client.watch({})[Symbol.asyncIterator]();
  await stream.next();
  const idle = http2.connect(listener.url);
  const closed = Promise.withResolvers<void>();
  idle.once("close", () => closed.resolve());
  await closed.promise;
  expect(listener.connectionCount()).toBe(1);
  end.resolve();
  expect((await stream.next()).done).toBe(true);
  await expect.poll(() => listener.connectionCount()).toBe(0);
});
