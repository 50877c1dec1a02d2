import { createClient } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../src/generated/grpc/reflection/v1/reflection_pb.ts";
import { ServiceError } from "../../src/memory/model/errors.ts";
import { createReflection } from "../../src/rpc/services/reflection.ts";
import { grpcTransport, send, sendJson, startTestListener } from "./harness.ts";

const start = (options = {}) =>
  startTestListener((router) => {
    router.service(Health, {
      check: ({ service }) => {
        if (service === "defect") throw new TypeError("secret of the driver");
        if (service === "long")
          throw new ServiceError("MEMORY_NOT_FOUND", "x", { metadata: { key: "y".repeat(400) } });
        return {};
      },
      async *watch({ service }) {
        yield {};
        if (service === "many")
          throw new ServiceError("INVALID_ARGUMENT", "x".repeat(400), { violations: many });
      },
    });
    createReflection([Health])(router);
  }, options);

const many = Array.from({ length: 50 }, (_, i) => ({
  field: `items[${i}]`,
  description: `wrong in way ${i}`,
}));

test.each([
  ["its own id, if it is sane", "abc-123/x=y", true],
  ["a new id for one with spaces", "a b", false],
  ["a new id for one that is too long", "x".repeat(129), false],
  ["a new id for one that is not ASCII", "h\u00e9", false],
  ["a new id for an empty one", "", false],
])("a request gets back %s", async (_name, sent, kept) => {
  const listener = await start();
  const answer = await sendJson(`${listener.url}/grpc.health.v1.Health/Check`, "{}", {
    "x-request-id": sent,
  });
  const received = answer.headers["x-request-id"];
  expect(received === sent).toBe(kept);
  const line = await listener.find(({ message }) => message === "call");
  expect(line.fields.requestId).toBe(received);
});

test("one line a call, probes at debug", async () => {
  const listener = await start();
  await sendJson(`${listener.url}/grpc.health.v1.Health/Check`, "{}");
  await send(`${listener.url}/livez`);
  await send(`${listener.url}/readyz`);
  await send(`${listener.url}/nothing?q=secret`);
  async function* requests() {
    yield { messageRequest: { case: "listServices" as const, value: "" } };
  }
  for await (const _ of createClient(ServerReflection, grpcTransport(listener.url)).serverReflectionInfo(
    requests(),
  ));
  await listener.find(({ fields }) => String(fields.method).includes("Reflection"));
  expect(
    listener.lines.map(({ level, fields }) => [level, fields.method, fields.code ?? fields.status]),
  ).toEqual([
    ["debug", "grpc.health.v1.Health/Check", "ok"],
    ["debug", "GET /livez", 200],
    ["debug", "GET /readyz", 200],
    ["info", "GET /nothing", 404],
    ["info", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "ok"],
  ]);
});

test("a defect is logged with its cause under the request id the client knows", async () => {
  const listener = await start();
  const answer = await sendJson(`${listener.url}/grpc.health.v1.Health/Check`, '{"service":"defect"}');
  expect(answer.text).not.toContain("secret");
  const line = await listener.find(({ level }) => level === "error");
  expect(line.fields).toMatchObject({
    err: { message: "secret of the driver" },
    method: "grpc.health.v1.Health/Check",
    requestId: answer.headers["x-request-id"],
  });
});

test.each([
  ["Check", "application/json", '{"service":"long"}', "content-encoding", "accept-encoding", "not_found"],
  [
    "Watch",
    "application/connect+json",
    '{"service":"many"}',
    "connect-content-encoding",
    "connect-accept-encoding",
    "invalid_argument",
  ],
])(
  "the code of a compressed error of %s is known",
  async (method, contentType, json, header, accept, code) => {
    const listener = await start({ compressMinBytes: 100 });
    const message = Buffer.from(json);
    const head = Buffer.from([0, 0, 0, 0, message.length]);
    const answer = await send(`${listener.url}/grpc.health.v1.Health/${method}`, {
      headers: { "content-type": contentType, [accept]: "gzip" },
      body: method === "Watch" ? Buffer.concat([head, message]) : message,
    });
    expect(answer.headers[header]).toBe("gzip");
    const line = await listener.find(({ message: text }) => text === "call");
    expect(line.fields.code).toBe(code);
  },
);

test("a client that leaves is logged as canceled", async () => {
  const entered = Promise.withResolvers<void>();
  const listener = await startTestListener(({ service }) => {
    service(Health, {
      check: (_request, { signal }) => {
        entered.resolve();
        const { promise, reject } = Promise.withResolvers<never>();
        signal.addEventListener("abort", () => reject(signal.reason));
        return promise;
      },
    });
  });
  const leave = new AbortController();
  const call = createClient(Health, grpcTransport(listener.url)).check({}, { signal: leave.signal });
  await entered.promise;
  leave.abort();
  await expect(call).rejects.toThrow();
  const line = await listener.find(({ message }) => message === "call");
  expect(line.fields.code).toBe("canceled");
  expect(listener.lines.filter(({ level }) => level === "error")).toEqual([]);
});
