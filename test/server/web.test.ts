import http2 from "node:http2";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { describe, expect, test, vi } from "vitest";
import { ErrorInfoSchema } from "../../src/generated/google/rpc/error_details_pb.ts";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { cleanUp, grpcTransport, send, sendJson, startTestListener } from "./harness.ts";

const start = (options = {}) => {
  const check = vi.fn(() => ({ status: 1 as const }));
  return startTestListener(({ service }) => void service(Health, { check }), options).then((listener) => ({
    listener,
    check,
    rpc: `${listener.url}/grpc.health.v1.Health/Check`,
  }));
};

describe("a request for a foreign host", () => {
  test("is refused over Connect, before any handler", async () => {
    const { check, rpc } = await start();
    const answer = await sendJson(rpc, "{}", { host: "evil.example" });
    expect(answer.status).toBe(403);
    expect(JSON.parse(answer.text)).toMatchObject({
      code: "permission_denied",
      details: [{ debug: { reason: "HOST_NOT_ALLOWED", metadata: { host: "evil.example" } } }],
    });
    expect(check).not.toHaveBeenCalled();
  });

  test("is refused over gRPC as PermissionDenied", async () => {
    const { listener, check } = await start();
    const session = http2.connect(listener.url);
    cleanUp(() => session.destroy());
    const stream = session.request({
      ":method": "POST",
      ":authority": "evil.example",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
    });
    const trailers = Promise.withResolvers<http2.IncomingHttpHeaders>();
    stream.on("trailers", trailers.resolve).resume().end(Buffer.alloc(5));
    expect(await trailers.promise).toMatchObject({
      "grpc-status": "7",
      "grpc-message": 'host "evil.example" is not allowed',
    });
    expect(check).not.toHaveBeenCalled();
    const line = await listener.find(({ message }) => message === "call");
    expect(line.fields.code).toBe("permission_denied");
  });

  test.each(["/livez", "/readyz", "/nothing"])("is refused on %s", async (path) => {
    const { listener } = await start();
    expect((await send(listener.url + path, { headers: { host: "evil.example" } })).status).toBe(403);
  });

  test("is served if the host is listed", async () => {
    const { rpc } = await start({ allowedHosts: ["memory.example"] });
    expect((await sendJson(rpc, "{}", { host: "memory.example" })).status).toBe(200);
  });

  test("is served if the server listens beyond loopback", async () => {
    const { listener } = await start({ host: "0.0.0.0" });
    const url = `http://127.0.0.1:${listener.port}/livez`;
    expect((await send(url, { headers: { host: "memory.example" } })).status).toBe(200);
  });
});

describe("a web page", () => {
  const origin = "https://app.example";

  test("elsewhere is refused", async () => {
    const { check, rpc } = await start();
    const answer = await sendJson(rpc, "{}", { origin });
    expect(answer.status).toBe(403);
    expect(JSON.parse(answer.text)).toMatchObject({ details: [{ debug: { reason: "HOST_NOT_ALLOWED" } }] });
    expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
    expect(check).not.toHaveBeenCalled();
  });

  test("elsewhere gets no preflight", async () => {
    const { rpc } = await start();
    const headers = { origin, "access-control-request-method": "POST" };
    expect((await send(rpc, { method: "OPTIONS", headers })).status).toBe(403);
  });

  test("that is listed gets its preflight", async () => {
    const { rpc } = await start({ allowedOrigins: [origin] });
    const answer = await send(rpc, {
      method: "OPTIONS",
      headers: {
        origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,connect-protocol-version",
        "access-control-request-private-network": "true",
      },
    });
    expect(answer.status).toBe(204);
    expect(answer.headers).toMatchObject({
      "access-control-allow-origin": origin,
      "access-control-allow-methods": "POST",
      "access-control-allow-headers": expect.stringMatching(/connect-protocol-version.*x-grpc-web/i),
      "access-control-allow-private-network": "true",
      vary: "Origin",
    });
  });

  test("that is listed may call and read the gRPC-Web headers", async () => {
    const { rpc } = await start({ allowedOrigins: [origin] });
    const answer = await sendJson(rpc, "{}", { origin });
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({
      "access-control-allow-origin": origin,
      "access-control-expose-headers": expect.stringMatching(/grpc-status/i),
      vary: "Origin",
    });
  });
});

test("the reason of a refusal reaches a gRPC client as detail", async () => {
  const { listener } = await start();
  const fromElsewhere: Interceptor = (next) => (request) => {
    request.header.set("origin", "https://evil.example");
    return next(request);
  };
  const transport = grpcTransport(listener.url, [fromElsewhere]);
  const error = await createClient(Health, transport)
    .check({})
    .then(() => undefined, ConnectError.from);
  expect(error).toMatchObject({ code: Code.PermissionDenied });
  expect(error?.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "HOST_NOT_ALLOWED" }]);
});

describe("probes", () => {
  test("/livez is ok without asking anything", async () => {
    const readiness = vi.fn(() => Promise.reject(new Error("away")));
    const { listener } = await start({ readiness });
    expect(await send(`${listener.url}/livez`)).toMatchObject({ status: 200, text: "ok\n" });
    expect(readiness).not.toHaveBeenCalled();
  });

  test.each([
    [true, 200],
    [false, 503],
  ])("/readyz with ready %s is %i with details", async (ready, status) => {
    const report = { ready, checks: { database: { ok: ready, detail: "answers" } } };
    const { listener } = await start({ readiness: async () => report });
    const answer = await send(`${listener.url}/readyz`);
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.text)).toEqual(report);
  });

  test("/readyz is 503 if the check fails, without its error", async () => {
    const { listener } = await start({ readiness: () => Promise.reject(new Error("password is hunter2")) });
    const answer = await send(`${listener.url}/readyz`);
    expect(answer.status).toBe(503);
    expect(answer.text).not.toContain("hunter2");
  });

  test("HEAD gets no body, other paths 404", async () => {
    const { listener } = await start();
    expect(await send(`${listener.url}/livez`, { method: "HEAD" })).toMatchObject({ status: 200, text: "" });
    expect((await send(`${listener.url}/`)).status).toBe(404);
    expect((await send(`${listener.url}/livez/x`)).status).toBe(404);
    expect((await send(`${listener.url}/livez?x=1`)).status).toBe(200);
  });

  test("an RPC without a handler is Unimplemented to a gRPC client", async () => {
    const { listener } = await start();
    const answer = await sendJson(`${listener.url}/no.Such/Rpc`, "{}");
    expect(answer.status).toBe(404);
  });
});
