import { once } from "node:events";
import http2 from "node:http2";
import { createClient } from "@connectrpc/connect";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { expect, test } from "vitest";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { cleanUp, grpcTransport, openSocket, send, startTestListener } from "./harness.ts";

/** Starts a server whose Watch runs until its call is aborted. */
async function startWatched() {
  const begun = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const listener = await startTestListener(
    ({ service }) =>
      void service(Health, {
        check: () => ({ status: 1 }),
        async *watch(_request, { signal }) {
          begun.resolve();
          await once(signal, "abort");
          ended.resolve();
          yield { status: 1 };
        },
      }),
  );
  return { listener, begun: begun.promise, ended: ended.promise };
}

const request = (path: string, contentType: string, body: string) =>
  `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: ${contentType}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
const watch = request("/grpc.health.v1.Health/Watch", "application/connect+json", "\0\0\0\0\u0002{}");

test("a connection that closes with a refused request behind a running one does no harm", async () => {
  const { listener, begun, ended } = await startWatched();
  const socket = await openSocket(listener);
  socket.write(watch + request("/grpc.health.v1.Health/Check", "text/plain", "{}"));
  await begun;
  socket.destroy();
  await ended;
  expect((await send(`${listener.url}/livez`)).status).toBe(200);
});

test("requests before a CONNECT end with their connection", async () => {
  const { listener, ended } = await startWatched();
  const socket = await openSocket(listener);
  const probe = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
  socket.write(`${probe}${watch}CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n`);
  await ended;
});

test("a stream that is reset without an error before its response is read frees its slot", async () => {
  const listener = await startTestListener(
    ({ service }) => void service(MemoryService, { get: () => ({}) }),
    {
      maxCalls: 1,
      bodyTimeouts: { requestMs: 50, streamMs: 50 },
    },
  );
  const session = http2.connect(listener.url, { settings: { initialWindowSize: 0 } });
  cleanUp(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": "/memoryservice.v1.MemoryService/Get",
    "content-type": "text/plain",
  });
  stream.end("{}");
  await once(stream, "response");
  stream.close(http2.constants.NGHTTP2_NO_ERROR);
  const client = createClient(MemoryService, grpcTransport(listener.url));
  const isServed = () =>
    client.get({}).then(
      () => true,
      () => false,
    );
  await expect.poll(isServed).toBe(true);
});
