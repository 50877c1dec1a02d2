import { Code, ConnectError, type ConnectRouter, createClient } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { describe, expect, test } from "vitest";
import { BadRequestSchema, ErrorInfoSchema } from "../../src/generated/google/rpc/error_details_pb.ts";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { ServiceError } from "../../src/memory/model/errors.ts";
import { noteCall } from "../../src/rpc/call-log.ts";
import { cleanUp, sendJson, startTestListener, transports } from "./harness.ts";

/** The health contract with an implementation that shows what a test needs. */
function routes({ service }: ConnectRouter): void {
  service(Health, {
    check(request, context) {
      noteCall(context, { domain: request.service, hits: 3 });
      if (request.service === "broken-rule") {
        throw new ServiceError("INVALID_ARGUMENT", "service: must be another (100 % sure, grüße)", {
          violations: [{ field: "service", description: "must be another" }],
        });
      }
      return { status: 1 };
    },
    async *watch(request) {
      yield { status: 1 };
      yield { status: 2 };
      if (request.service === "boom")
        throw new ServiceError("OVERLOADED", "too many memories", { retryAfterMs: 5 });
    },
  });
}

describe.each(Object.entries(transports))("%s", (_name, transport) => {
  const start = async () => {
    const listener = await startTestListener(routes);
    return { listener, client: createClient(Health, transport(listener.url)) };
  };

  test("answers a unary call, with a request id and a line in the log", async () => {
    const { listener, client } = await start();
    let header = new Headers();
    const answer = await client.check(
      { service: "work" },
      {
        onHeader: (received) => {
          header = received;
        },
      },
    );
    expect(answer.status).toBe(1);
    expect(header.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
    const line = await listener.find(({ message }) => message === "call");
    expect(line.fields).toEqual({
      method: "grpc.health.v1.Health/Check",
      code: "ok",
      ms: expect.any(Number),
      requestId: header.get("x-request-id"),
      domain: "work",
      hits: 3,
    });
  });

  test("sends errors with their details", async () => {
    const { listener, client } = await start();
    const error = await client.check({ service: "broken-rule" }).then(() => undefined, ConnectError.from);
    expect(error).toMatchObject({
      code: Code.InvalidArgument,
      rawMessage: "service: must be another (100 % sure, grüße)",
    });
    expect(error?.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "INVALID_ARGUMENT" }]);
    expect(error?.findDetails(BadRequestSchema)).toMatchObject([{ fieldViolations: [{ field: "service" }] }]);
    const line = await listener.find(({ message }) => message === "call");
    expect(line.fields.code).toBe("invalid_argument");
  });

  test("streams, and ends a failing stream with its error", async () => {
    const { listener, client } = await start();
    const seen: number[] = [];
    const watching = (async () => {
      for await (const { status } of client.watch({ service: "boom" })) seen.push(status);
    })();
    const error = await watching.then(() => undefined, ConnectError.from);
    expect(seen).toEqual([1, 2]);
    expect(error).toMatchObject({ code: Code.ResourceExhausted, rawMessage: "too many memories" });
    expect(error?.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "OVERLOADED" }]);
    const line = await listener.find(({ message }) => message === "call");
    expect(line.fields.code).toBe("resource_exhausted");
  });

  test("logs a stream that ended well as ok", async () => {
    const { listener, client } = await start();
    for await (const _ of client.watch({}));
    const line = await listener.find(({ message }) => message === "call");
    expect(line.fields.code).toBe("ok");
  });
});

describe("grpc-js", () => {
  const definition = loadSync("proto-internal/grpc/health/v1/health.proto");
  const services = grpc.loadPackageDefinition(definition).grpc as grpc.GrpcObject;
  const HealthClient = ((services.health as grpc.GrpcObject).v1 as grpc.GrpcObject)
    .Health as grpc.ServiceClientConstructor;

  const start = async () => {
    const listener = await startTestListener(routes);
    const client = new HealthClient(`127.0.0.1:${listener.port}`, grpc.credentials.createInsecure());
    cleanUp(() => client.close());
    return { listener, client };
  };
  const check = (client: InstanceType<grpc.ServiceClientConstructor>, service: string) => {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    client.check?.({ service }, (error: Error | null, answer: unknown) =>
      error ? reject(error) : resolve(answer),
    );
    return promise;
  };

  test("gets an answer", async () => {
    const { client } = await start();
    expect(await check(client, "x")).toEqual({ status: 1 });
  });

  test("gets an error with a legible message and its details as trailers", async () => {
    const { client } = await start();
    const error = await check(client, "broken-rule").then(
      () => undefined,
      (thrown: grpc.ServiceError) => thrown,
    );
    expect(error).toMatchObject({
      code: grpc.status.INVALID_ARGUMENT,
      details: "service: must be another (100 % sure, grüße)",
    });
    expect(error?.metadata.get("grpc-status-details-bin")).toHaveLength(1);
  });

  test("reads a stream to its end", async () => {
    const { client } = await start();
    const seen: unknown[] = [];
    const answers: AsyncIterable<unknown> = client.makeServerStreamRequest(
      "/grpc.health.v1.Health/Watch",
      () => Buffer.alloc(0),
      (bytes) => bytes[1],
      {},
    );
    for await (const answer of answers) seen.push(answer);
    expect(seen).toEqual([1, 2]);
  });
});

test("curl's JSON gets JSON", async () => {
  const listener = await startTestListener(routes);
  const answer = await sendJson(`${listener.url}/grpc.health.v1.Health/Check`, "{}");
  expect(answer.status).toBe(200);
  expect(JSON.parse(answer.text)).toEqual({ status: "SERVING" });
});
