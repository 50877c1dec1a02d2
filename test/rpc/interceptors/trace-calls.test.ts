import { once } from "node:events";
import { Code, ConnectError, createClient, createContextValues, type Transport } from "@connectrpc/connect";
import { type SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Health } from "../../../src/generated/grpc/health/v1/health_pb.ts";
import { ServiceError } from "../../../src/memory/model/errors.ts";
import { createErrorInterceptor } from "../../../src/rpc/interceptors/errors.ts";
import { createTraceInterceptor } from "../../../src/rpc/interceptors/trace-calls.ts";
import { registerTracing, type TestTracing } from "../../observability/tracing.ts";
import { grpcTransport, send, sendJson, startTestListener, transports } from "../../server/harness.ts";
import { silentLogger } from "../../support/silent-logger.ts";

const SERVER: SpanKind.SERVER = 1;
let tracing: TestTracing;

beforeAll(() => {
  tracing = registerTracing();
});
afterEach(() => tracing.reset());
afterAll(() => tracing.remove());

/** Health handlers that respond, fail, stream forever or until a signal; each creates a span of its own. */
async function start(handlers: { gate?: Promise<void>; onReturn?: () => void } = {}) {
  const inner = (name: string) => tracing.tracer.startSpan(name).end();
  return await startTestListener(
    ({ service }) =>
      service(Health, {
        async check(request) {
          await new Promise(setImmediate);
          inner("in check");
          if (request.service === "defect") throw new Error("secret of the driver");
          if (request.service !== "") throw new ServiceError("MEMORY_NOT_FOUND", "not there");
          return {};
        },
        async *watch(request, { signal }) {
          try {
            inner("before the first");
            yield {};
            if (request.service === "waits") await once(signal, "abort");
            await handlers.gate;
            inner("before the second");
            yield {};
            if (request.service === "fails") throw new ServiceError("DATABASE_UNAVAILABLE", "away");
          } finally {
            handlers.onReturn?.();
          }
        },
      }),
    {
      interceptors: [
        createTraceInterceptor(tracing.tracer),
        createErrorInterceptor({ logger: silentLogger }),
      ],
    },
  );
}

function transport(name: string, url: string): Transport {
  const open = transports[name];
  if (open === undefined) throw new Error(`no transport ${name}`);
  return open(url);
}

/** Waits for the one ended SERVER span. */
async function serverSpan() {
  await expect.poll(() => tracing.spans().filter((span) => span.kind === SERVER)).toHaveLength(1);
  const [span] = tracing.spans().filter(({ kind }) => kind === SERVER);
  if (span === undefined) throw new Error("no span");
  return span;
}

test.each(Object.entries(transports))(
  "a call by %s is a SERVER span with its work below",
  async (name, open) => {
    const { url } = await start();
    await createClient(Health, open(url)).check({});
    const span = await serverSpan();
    const grpc = name.startsWith("gRPC");
    expect(span.name).toBe("grpc.health.v1.Health/Check");
    expect(span.attributes).toEqual({
      "rpc.system.name": grpc ? "grpc" : "connectrpc",
      "rpc.method": "grpc.health.v1.Health/Check",
      "memory_service.request_id": expect.any(String),
      ...(grpc ? { "rpc.response.status_code": "OK" } : {}),
    });
    expect(span.status.code).toBe(SpanStatusCode.UNSET);
    expect(tracing.trees()).toEqual([
      { name: "grpc.health.v1.Health/Check", children: [{ name: "in check", children: [] }] },
    ]);
  },
);

test.each([
  ["x", true, { "rpc.response.status_code": "NOT_FOUND" }, SpanStatusCode.UNSET],
  ["x", false, { "rpc.response.status_code": "not_found" }, SpanStatusCode.UNSET],
  [
    "defect",
    true,
    { "rpc.response.status_code": "INTERNAL", "error.type": "INTERNAL" },
    SpanStatusCode.ERROR,
  ],
  [
    "defect",
    false,
    { "rpc.response.status_code": "internal", "error.type": "internal" },
    SpanStatusCode.ERROR,
  ],
])(
  "a failed call for %o (gRPC: %o) has its code, and is an error if the server is to blame",
  async (service, grpc, attributes, status) => {
    const { url } = await start();
    const open = grpc ? grpcTransport(url) : transport("Connect over HTTP/1.1", url);
    await expect(createClient(Health, open).check({ service })).rejects.toThrow();
    const span = await serverSpan();
    expect(span.attributes).toMatchObject(attributes);
    expect("error.type" in span.attributes).toBe("error.type" in attributes);
    expect(span.status).toEqual({ code: status });
    expect(JSON.stringify([span.attributes, span.events])).not.toContain("secret");
  },
);

test("the request id of the client is on the span", async () => {
  const { url } = await start();
  await sendJson(`${url}/grpc.health.v1.Health/Check`, "{}", { "x-request-id": "mine-1" });
  expect((await serverSpan()).attributes["memory_service.request_id"]).toBe("mine-1");
});

test.each(["01", "00"])(
  "links to the trace of a client, sampled %s, without continuing it",
  async (flags) => {
    const { url } = await start();
    const traceId = "0af7651916cd43dd8448eb211c80319c";
    await sendJson(`${url}/grpc.health.v1.Health/Check`, "{}", {
      traceparent: `00-${traceId}-b7ad6b7169203331-${flags}`,
    });
    const span = await serverSpan();
    expect(span.spanContext().traceId).not.toBe(traceId);
    expect(span.parentSpanContext).toBeUndefined();
    expect(span.links.map((link) => link.context.traceId)).toEqual([traceId]);
  },
);

test("ignores an invalid trace of a client", async () => {
  const { url } = await start();
  await sendJson(`${url}/grpc.health.v1.Health/Check`, "{}", { traceparent: "00-zz-zz-01" });
  expect((await serverSpan()).links).toEqual([]);
});

test("the span of a stream ends with the stream, and is active for all of it", async () => {
  const gate = Promise.withResolvers<void>();
  const { url } = await start({ gate: gate.promise });
  let received = 0;
  for await (const _ of createClient(Health, grpcTransport(url)).watch({})) {
    received++;
    if (received > 1) continue;
    expect(tracing.spans().map(({ name }) => name)).toEqual(["before the first"]);
    gate.resolve();
  }
  const span = await serverSpan();
  expect(span.attributes["rpc.response.status_code"]).toBe("OK");
  expect(tracing.trees()).toEqual([
    {
      name: "grpc.health.v1.Health/Watch",
      children: [
        { name: "before the first", children: [] },
        { name: "before the second", children: [] },
      ],
    },
  ]);
});

test("the span of a stream that fails has its code", async () => {
  const { url } = await start();
  const read = async () => {
    for await (const _ of createClient(Health, grpcTransport(url)).watch({ service: "fails" }));
  };
  await expect(read()).rejects.toThrow("away");
  const span = await serverSpan();
  expect(span.attributes).toMatchObject({
    "rpc.response.status_code": "UNAVAILABLE",
    "error.type": "UNAVAILABLE",
  });
});

test.each(["gRPC over HTTP/2", "Connect over HTTP/1.1", "Connect over HTTP/2"])(
  "the span of a stream ends when its client leaves, by %s",
  async (name) => {
    const returned = Promise.withResolvers<void>();
    const { url } = await start({ onReturn: returned.resolve });
    const leave = new AbortController();
    const health = createClient(Health, transport(name, url));
    const stream = health.watch({ service: "waits" }, { signal: leave.signal });
    const read = async () => {
      for await (const _ of stream) leave.abort();
    };
    await expect(read()).rejects.toThrow();
    const span = await serverSpan();
    expect(String(span.attributes["rpc.response.status_code"])).toMatch(/^cancell?ed$/i);
    expect(span.status.code).toBe(SpanStatusCode.UNSET);
    await returned.promise;
  },
);

test("a span ends with the abort of its call while no message is requested", async () => {
  const call = new AbortController();
  const interceptor = createTraceInterceptor(tracing.tracer);
  async function* messages() {
    yield 1;
    yield 2;
  }
  const answer = await interceptor(
    // Only the parts of a call that the interceptor reads.
    (async () => ({ stream: true, message: messages() })) as never,
  )({
    service: Health,
    method: Health.method.watch,
    header: new Headers({ "content-type": "application/grpc" }),
    contextValues: createContextValues(),
    signal: call.signal,
    stream: true,
  } as never);
  const iterator = (answer.message as AsyncIterable<number>)[Symbol.asyncIterator]();
  expect(await iterator.next()).toEqual({ done: false, value: 1 });
  expect(tracing.spans()).toEqual([]);
  call.abort(new ConnectError("too late", Code.DeadlineExceeded));
  expect((await serverSpan()).attributes["rpc.response.status_code"]).toBe("DEADLINE_EXCEEDED");
});

test("requests other than calls have no span", async () => {
  const { url } = await start();
  await send(`${url}/livez`);
  await sendJson(`${url}/invented.Service/Method`, "{}");
  await sendJson(`${url}/grpc.health.v1.Health/Check`, "no json");
  expect(tracing.spans()).toEqual([]);
});

test("a call without an SDK passes unchanged", async () => {
  const answer = Promise.resolve();
  const request = {
    service: Health,
    method: Health.method.check,
    header: new Headers(),
    contextValues: createContextValues(),
  };
  trace.disable();
  const interceptor = createTraceInterceptor(trace.getTracer("test"));
  expect(interceptor((() => answer) as never)(request as never)).toBe(answer);
});
