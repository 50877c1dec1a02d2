import { once } from "node:events";
import http2 from "node:http2";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { expect, test } from "vitest";
import { UNRESTRICTED } from "../../src/auth/caller.ts";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../src/generated/grpc/reflection/v1/reflection_pb.ts";
import { ServiceError } from "../../src/memory/model/errors.ts";
import { createHealth } from "../../src/rpc/services/health.ts";
import { createReflection } from "../../src/rpc/services/reflection.ts";
import { createCallLimiter } from "../../src/server/call-limit.ts";
import type { ListenerOptions } from "../../src/server/listener.ts";
import { collect } from "../support/in-process/service.ts";
import { cleanUp, grpcTransport, startTestListener } from "./harness.ts";

const authenticator = {
  authenticate(authorization: string | undefined) {
    if (authorization === undefined) throw new ServiceError("UNAUTHENTICATED", "the call has no credentials");
    return UNRESTRICTED;
  },
};

const startGuarded = (options: Partial<ListenerOptions> = {}) => {
  const health = createHealth({ services: [""] });
  health.set("", "serving");
  return startTestListener(
    (router) => {
      health.routes(router);
      createReflection([MemoryService])(router);
      router.service(MemoryService, { list: () => ({}) });
    },
    { authenticator, maxCalls: 2, ...options },
  );
};

test("a refused client that does not read its errors does not block other callers", async () => {
  const { url } = await startGuarded();
  const session = http2.connect(url, { settings: { initialWindowSize: 0 } });
  cleanUp(() => session.destroy());
  for (let n = 0; n < 3; n++) {
    const call = session.request({
      ":method": "POST",
      ":path": "/memoryservice.v1.MemoryService/List",
      "content-type": "application/json",
    });
    call.end("{}");
    expect((await once(call, "response"))[0]).toMatchObject({ ":status": 401 });
  }
  const headers = { authorization: "Bearer key" };
  await createClient(MemoryService, grpcTransport(url)).list({}, { headers });
});

test.each(["application/json", "application/grpc"])(
  "who does not take an answer in %s loses it, and the place of its call",
  async (type) => {
    const { url, find } = await startGuarded({ maxCalls: 1, bodyTimeouts: { requestMs: 50, streamMs: 50 } });
    const session = http2.connect(url, { settings: { initialWindowSize: 0 } });
    cleanUp(() => session.destroy());
    const call = session.request({
      ":method": "POST",
      ":path": "/memoryservice.v1.MemoryService/List",
      "content-type": type,
      authorization: "Bearer key",
    });
    const closed = once(call, "close");
    call.on("error", () => {}).end(type === "application/json" ? "{}" : Buffer.alloc(5));
    await closed;
    expect(call.rstCode).toBe(http2.constants.NGHTTP2_CANCEL);
    await find(({ message, fields }) => message === "call" && fields.code === "canceled");
    const headers = { authorization: "Bearer key" };
    await createClient(MemoryService, grpcTransport(url)).list({}, { headers });
  },
);

test("a large message without credentials is refused before it is read", async () => {
  const { url } = await startGuarded();
  const service = "x".repeat(17_000);
  const transport = grpcTransport(url);
  const checked = createClient(Health, transport).check({ service }).catch(ConnectError.from);
  expect(await checked).toMatchObject({ code: Code.ResourceExhausted });
  const answers = createClient(ServerReflection, transport).serverReflectionInfo(
    (async function* () {
      yield { host: service };
    })(),
  );
  const reflected = collect(answers).catch(ConnectError.from);
  expect(await reflected).toMatchObject({ code: Code.ResourceExhausted });
});

test("streams without credentials do not use the byte budget of authenticated callers", () => {
  const limiter = createCallLimiter({ maxCalls: 2, maxRequestBytes: 100, maxBytesPerCall: 100 });
  const [open, work] = [limiter.enter("public"), limiter.enter("work")];
  if (open instanceof Error || work instanceof Error) throw new Error("there is no place");
  open.hold(100);
  work.hold(100);
});
