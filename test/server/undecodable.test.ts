import http2 from "node:http2";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { cleanUp, send, startTestListener, type TestListener } from "./harness.ts";

// What cannot be decoded at all keeps the code that connect gives it, without details: no handler or
// interceptor has seen a request by then. `service` of the request is field 1, a string.
const truncated = Uint8Array.of(0x0a, 0x05, 0x61); // 5 bytes promised, 1 there
const wrongWireType = Uint8Array.of(0x08, 0x01); // a varint in field 1
const wireTypeSeven = Uint8Array.of(0x0f); // no such wire type
const fieldZero = Uint8Array.of(0x00, 0x01);
const notUtf8 = Uint8Array.of(0x0a, 0x02, 0xff, 0xff);
const overlongVarint = new Uint8Array(11).fill(0x80);

const binaries: [string, Uint8Array, string][] = [
  ["a truncated protobuf", truncated, "internal"],
  ["an unknown wire type", wireTypeSeven, "internal"],
  ["field number zero", fieldZero, "internal"],
  ["an endless varint", overlongVarint, "internal"],
  ["a string that is not UTF-8", notUtf8, "internal"],
  ["a field with another field's wire type", wrongWireType, "internal"],
];

const jsons: [string, string, string][] = [
  ["an empty JSON body", "", "invalid_argument"],
  ["JSON that ends too early", '{"service":', "invalid_argument"],
  ["a JSON array for a message", "[]", "invalid_argument"],
  ["a JSON number for a string", '{"service":1}', "invalid_argument"],
  ["an unknown JSON field", '{"servize":"x"}', "invalid_argument"],
  ["a JSON field given twice", '{"service":"a","service":"b"}', "invalid_argument"],
  ["a lone surrogate escape in JSON", '{"service":"\\ud800"}', "invalid_argument"],
];

const start = () => startTestListener(({ service }) => void service(Health, { check: () => ({}), watch }));
async function* watch() {
  yield {};
}

async function loggedCode(listener: TestListener) {
  const { fields } = await listener.find(({ message }) => message === "call");
  return fields.code ?? fields.status;
}

const envelope = (message: Uint8Array, flags = 0) => {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
};

async function callGrpc(listener: TestListener, method: string, body: Uint8Array, headers: object = {}) {
  const session = http2.connect(listener.url);
  cleanUp(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": `/grpc.health.v1.Health/${method}`,
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  stream.on("response", (header) => header["grpc-status"] && resolve(String(header["grpc-status"])));
  stream.on("trailers", (trailers) => resolve(String(trailers["grpc-status"])));
  stream.on("error", reject).resume();
  stream.end(body);
  return promise;
}

const grpcStatus: Record<string, string> = { internal: "13", invalid_argument: "3", unimplemented: "12" };

for (const method of ["Check", "Watch"]) {
  test.each(binaries)(`gRPC ${method}: %s`, async (_name, body, code) => {
    const listener = await start();
    expect(await callGrpc(listener, method, envelope(body))).toBe(grpcStatus[code]);
    expect(await loggedCode(listener)).toBe(code);
  });
}

const grpcFrames: [string, Uint8Array, object, string][] = [
  ["no message", new Uint8Array(), {}, "unimplemented"],
  [
    "two messages for one",
    Buffer.concat([envelope(Uint8Array.of()), envelope(Uint8Array.of())]),
    {},
    "unimplemented",
  ],
  ["half an envelope's head", Uint8Array.of(0, 0), {}, "invalid_argument"],
  ["an envelope cut short", envelope(new Uint8Array(9)).subarray(0, 8), {}, "invalid_argument"],
  ["a compressed envelope without an encoding", envelope(Uint8Array.of(), 1), {}, "internal"],
  ["an unknown compression", envelope(Uint8Array.of(), 1), { "grpc-encoding": "lzma" }, "unimplemented"],
  ["what is not gzip", envelope(Uint8Array.of(1, 2, 3), 1), { "grpc-encoding": "gzip" }, "invalid_argument"],
  [
    "a gzip cut short",
    envelope(gzipSync("abc").subarray(0, 12), 1),
    { "grpc-encoding": "gzip" },
    "invalid_argument",
  ],
];

test.each(grpcFrames)("gRPC: %s", async (_name, body, headers, code) => {
  const listener = await start();
  expect(await callGrpc(listener, "Check", body, headers)).toBe(grpcStatus[code]);
  expect(await loggedCode(listener)).toBe(code);
});

test.each(["Check", "Watch"])(
  "gRPC %s: half a surrogate pair in the name of a JSON field",
  async (method) => {
    const listener = await start();
    const headers = { "content-type": "application/grpc+json" };
    expect(await callGrpc(listener, method, envelope(Buffer.from('{"a\\ud800":1}')), headers)).toBe("3");
    expect(await loggedCode(listener)).toBe("invalid_argument");
  },
);

test.each(["Check", "Watch"])(
  "gRPC-Web %s: half a surrogate pair in the name of a JSON field",
  async (method) => {
    const listener = await start();
    const answer = await send(`${listener.url}/grpc.health.v1.Health/${method}`, {
      headers: { "content-type": "application/grpc-web+json" },
      body: envelope(Buffer.from('{"a\\ud800":1}')),
    });
    expect(answer.status).toBe(200);
    expect(await loggedCode(listener)).toBe("invalid_argument");
  },
);

test.each(binaries)("Connect: %s", async (_name, body, code) => {
  const listener = await start();
  const answer = await send(`${listener.url}/grpc.health.v1.Health/Check`, {
    headers: { "content-type": "application/proto" },
    body,
  });
  expect(JSON.parse(answer.text).code).toBe(code);
  expect(await loggedCode(listener)).toBe(code);
});

test.each(jsons)("Connect: %s", async (_name, body, code) => {
  const listener = await start();
  const answer = await send(`${listener.url}/grpc.health.v1.Health/Check`, {
    headers: { "content-type": "application/json" },
    body,
  });
  expect(JSON.parse(answer.text).code).toBe(code);
  expect(await loggedCode(listener)).toBe(code);
});

test.each(jsons)("Connect stream: %s", async (_name, body, code) => {
  const listener = await start();
  const answer = await send(`${listener.url}/grpc.health.v1.Health/Watch`, {
    headers: { "content-type": "application/connect+json" },
    body: envelope(Buffer.from(body)),
  });
  expect(answer.status).toBe(200);
  expect(await loggedCode(listener)).toBe(code);
});

test.each(binaries)("gRPC-Web: %s", async (_name, body, code) => {
  const listener = await start();
  const answer = await send(`${listener.url}/grpc.health.v1.Health/Check`, {
    headers: { "content-type": "application/grpc-web+proto" },
    body: envelope(body),
  });
  expect(answer.text).toContain(`grpc-status: ${grpcStatus[code]}`);
  expect(await loggedCode(listener)).toBe(code);
});

const requests: [string, string, Record<string, string>, number, string][] = [
  ["an unknown content type", "POST", { "content-type": "text/plain" }, 415, "application/json"],
  ["no content type", "POST", {}, 415, "application/json"],
  ["a GET of an RPC", "GET", {}, 405, "use POST"],
  ["a PUT of an RPC", "PUT", { "content-type": "application/json" }, 405, "use POST"],
];

test.each(requests)("HTTP: %s", async (_name, method, headers, status, explanation) => {
  const listener = await start();
  const query = method === "GET" ? "?encoding=json&message=%7B%7D&connect=v1" : "";
  const answer = await send(`${listener.url}/grpc.health.v1.Health/Check${query}`, { method, headers });
  expect(answer.status).toBe(status);
  expect(answer.text).toContain(explanation);
  expect(await loggedCode(listener)).toBe(status);
});

test("a bidirectional stream over HTTP/1.1 is 505", async () => {
  const { createReflection } = await import("../../src/rpc/services/reflection.ts");
  const listener = await startTestListener(createReflection([]));
  const answer = await send(`${listener.url}/grpc.reflection.v1.ServerReflection/ServerReflectionInfo`, {
    headers: { "content-type": "application/connect+proto" },
    body: envelope(Uint8Array.of()),
  });
  expect(answer.status).toBe(505);
});
