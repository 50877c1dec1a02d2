import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import { type AddressInfo, createServer } from "node:net";
import { Code, ConnectError, type ConnectRouter, createClient } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { ErrorInfoSchema, RetryInfoSchema } from "../../src/generated/google/rpc/error_details_pb.ts";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { createHealth } from "../../src/rpc/services/health.ts";
import { StartupError } from "../../src/util/startup-error.ts";
import { cleanUp, openSocket, send, startTestListener, transports } from "./harness.ts";

/** Creates a service whose stream sends one message, then waits for `finish` or its signal. */
function createSlowService() {
  const finish = Promise.withResolvers<void>();
  const routes = ({ service }: ConnectRouter) => {
    service(Health, {
      async *watch(_request, { signal }) {
        yield { status: 1 };
        const aborted = Promise.withResolvers<never>();
        signal.addEventListener("abort", () => aborted.reject(signal.reason));
        await Promise.race([finish.promise, aborted.promise]);
        yield { status: 2 };
      },
    });
  };
  return { routes, finish: finish.resolve };
}

describe.each(Object.entries(transports))("%s", (_name, transport) => {
  test("a running stream finishes after close, new calls are refused", async () => {
    const { routes, finish } = createSlowService();
    const listener = await startTestListener(routes);
    const stream = createClient(Health, transport(listener.url)).watch({})[Symbol.asyncIterator]();
    expect((await stream.next()).value?.status).toBe(1);
    const closed = listener.close();
    await expect(send(`${listener.url}/livez`)).rejects.toThrow("ECONNREFUSED");
    finish();
    expect((await stream.next()).value?.status).toBe(2);
    expect((await stream.next()).done).toBe(true);
    await closed;
    expect(listener.connectionCount()).toBe(0);
  });

  test("after the grace period a running stream ends as Unavailable", async () => {
    const { routes } = createSlowService();
    const listener = await startTestListener(routes, { shutdown: { graceMs: 50 } });
    const stream = createClient(Health, transport(listener.url)).watch({})[Symbol.asyncIterator]();
    await stream.next();
    const closed = listener.close();
    const error = await stream.next().then(() => undefined, ConnectError.from);
    expect(error).toMatchObject({ code: Code.Unavailable, rawMessage: "the server is shutting down" });
    expect(error?.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "SHUTTING_DOWN" }]);
    expect(error?.findDetails(RetryInfoSchema)).toHaveLength(1);
    await closed;
    expect(listener.connectionCount()).toBe(0);
  });
});

test("an HTTP/2 client receives GOAWAY before any stream is refused", async () => {
  const listener = await startTestListener(createSlowService().routes);
  const session = http2.connect(listener.url);
  cleanUp(() => session.destroy());
  await once(session, "remoteSettings");
  const lastAccepted: number[] = [];
  session.on("goaway", (_code: number, lastStreamId: number) => lastAccepted.push(lastStreamId));
  await listener.close();
  expect(lastAccepted[0]).toBe(2 ** 31 - 1);
});

test("a handler that ignores everything is cut", async () => {
  const listener = await startTestListener(
    ({ service }) =>
      void service(Health, {
        async *watch() {
          yield {};
          await new Promise<never>(() => undefined);
        },
      }),
    { shutdown: { graceMs: 20 }, timeouts: { cutMs: 20 } },
  );
  const transport = transports["gRPC over HTTP/2"];
  if (transport === undefined) throw new Error("no such transport");
  const stream = createClient(Health, transport(listener.url)).watch({})[Symbol.asyncIterator]();
  await stream.next();
  const ended = stream.next().then(() => undefined, ConnectError.from);
  await listener.close();
  expect(await ended).toBeInstanceOf(ConnectError);
});

test("idle connections of every kind do not hold it up", async () => {
  const health = createHealth({ services: [""] });
  const listener = await startTestListener(health.routes, { shutdown: { graceMs: 60_000 } });
  const agent = new http.Agent({ keepAlive: true });
  cleanUp(() => agent.destroy());
  for (const transport of Object.values(transports))
    await createClient(Health, transport(listener.url)).check({});
  await openSocket(listener);
  (await openSocket(listener)).write("PRI");
  expect(listener.connectionCount()).toBeGreaterThan(4);
  await Promise.all([listener.close(), listener.close()]);
  expect(listener.connectionCount()).toBe(0);
});

test("health watchers are notified, then their streams end, then the listener closes", async () => {
  const health = createHealth({ services: [""] });
  health.set("", "serving");
  const listener = await startTestListener(health.routes, { shutdown: { graceMs: 60_000 } });
  const transport = transports["gRPC over HTTP/2"];
  if (transport === undefined) throw new Error("no such transport");
  const seen: number[] = [];
  const watching = (async () => {
    for await (const { status } of createClient(Health, transport(listener.url)).watch({})) {
      seen.push(status);
      if (seen.length > 1) continue;
      health.shutdown();
      void listener.close();
    }
  })();
  await watching;
  expect(seen).toEqual([1, 2]);
  await listener.close();
});

describe("a listener that cannot start says why in one sentence", () => {
  test("the port is taken", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    cleanUp(() => void other.close());
    const listening = Promise.withResolvers<void>();
    other.once("listening", listening.resolve);
    await listening.promise;
    const { port } = other.address() as AddressInfo;
    const error = await startTestListener(() => undefined, { port }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(StartupError);
    expect(error).toMatchObject({
      problem: `cannot listen on 127.0.0.1 port ${port}: the port is already in use, perhaps by another server`,
    });
  });

  test.each([
    ["192.0.2.1", "this machine does not have that address"],
    ["no-such-host.invalid", "that name does not resolve to an address"],
  ])("the host is %s", async (host, reason) => {
    const error = await startTestListener(() => undefined, { host }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(StartupError);
    expect(error).toMatchObject({ problem: `cannot listen on ${host} port 0: ${reason}` });
  });
});
