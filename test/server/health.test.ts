import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { expect, test } from "vitest";
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../src/generated/grpc/health/v1/health_pb.ts";
import { createHealth } from "../../src/rpc/services/health.ts";
import { grpcTransport, startTestListener } from "./harness.ts";

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = ServingStatus;

function start(services: string[]) {
  const health = createHealth({ services });
  return { health, client: createClient(Health, createRouterTransport(health.routes)) };
}

function statuses(stream: AsyncIterable<{ status: ServingStatus }>) {
  const iterator = stream[Symbol.asyncIterator]();
  return async () => {
    const next = await iterator.next();
    return next.done ? undefined : next.value.status;
  };
}

test("Check returns the state of each service, which is not serving until set", async () => {
  const { health, client } = start(["", "a.A"]);
  expect(await client.check({})).toMatchObject({ status: NOT_SERVING });
  health.set("", "serving");
  expect(await client.check({})).toMatchObject({ status: SERVING });
  expect(await client.check({ service: "a.A" })).toMatchObject({ status: NOT_SERVING });
});

test("Check answers NotFound for an unknown service", async () => {
  const { client } = start([""]);
  const error = await client.check({ service: "unknown" }).catch(ConnectError.from);
  expect(error).toMatchObject({ code: Code.NotFound, rawMessage: 'unknown service "unknown"' });
});

test("List returns all states", async () => {
  const { health, client } = start(["", "a.A"]);
  health.set("a.A", "serving");
  expect(await client.list({})).toMatchObject({
    statuses: { "": { status: NOT_SERVING }, "a.A": { status: SERVING } },
  });
});

test("Watch sends the current state, then each change", async () => {
  const { health, client } = start([""]);
  const next = statuses(client.watch({}));
  expect(await next()).toBe(NOT_SERVING);
  const changed = next();
  health.set("", "serving");
  expect(await changed).toBe(SERVING);
  const changedBack = next();
  health.set("", "serving");
  health.set("", "not_serving");
  expect(await changedBack).toBe(NOT_SERVING);
  health.shutdown();
});

test("Watch of an unknown service sends SERVICE_UNKNOWN and stays open", async () => {
  const { health, client } = start([""]);
  const next = statuses(client.watch({ service: "unknown" }));
  expect(await next()).toBe(SERVICE_UNKNOWN);
  const end = next();
  health.shutdown();
  expect(await end).toBeUndefined();
});

test("a slow watcher gets the latest state only", async () => {
  const { health, client } = start([""]);
  const next = statuses(client.watch({}));
  expect(await next()).toBe(NOT_SERVING);
  for (let i = 0; i < 100; i++) {
    health.set("", "serving");
    health.set("", "not_serving");
  }
  health.set("", "serving");
  expect(await next()).toBe(SERVING);
  health.shutdown();
  expect(await next()).toBe(NOT_SERVING);
  expect(await next()).toBeUndefined();
});

test("shutdown says not serving, ends the streams and is final", async () => {
  const { health, client } = start([""]);
  health.set("", "serving");
  const next = statuses(client.watch({}));
  expect(await next()).toBe(SERVING);
  const last = next();
  health.shutdown();
  expect(await last).toBe(NOT_SERVING);
  expect(await next()).toBeUndefined();
  health.set("", "serving");
  expect(await client.check({})).toMatchObject({ status: NOT_SERVING });
});

test("a watcher that cancels ends its stream on the server", async () => {
  const health = createHealth({ services: [""] });
  const listener = await startTestListener(health.routes);
  const leave = new AbortController();
  const client = createClient(Health, grpcTransport(listener.url));
  const next = statuses(client.watch({}, { signal: leave.signal }));
  expect(await next()).toBe(NOT_SERVING);
  const end = next().catch(ConnectError.from);
  leave.abort();
  expect(await end).toMatchObject({ code: Code.Canceled });
  const line = await listener.find(({ fields }) => fields.method === "grpc.health.v1.Health/Watch");
  expect(line).toMatchObject({ level: "debug", fields: { code: "canceled" } });
});

test("a watcher's deadline is honoured", async () => {
  const health = createHealth({ services: [""] });
  const listener = await startTestListener(health.routes);
  const next = statuses(createClient(Health, grpcTransport(listener.url)).watch({}, { timeoutMs: 1_000 }));
  expect(await next()).toBe(NOT_SERVING);
  expect(await next().catch(ConnectError.from)).toMatchObject({ code: Code.DeadlineExceeded });
});
