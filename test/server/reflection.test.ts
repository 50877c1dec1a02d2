import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient, createRouterTransport } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { file_google_rpc_status } from "../../src/generated/google/rpc/status_pb.ts";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { ServerReflection as V1 } from "../../src/generated/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as V1Alpha } from "../../src/generated/grpc/reflection/v1alpha/reflection_pb.ts";
import { createHealth } from "../../src/rpc/services/health.ts";
import { createReflection } from "../../src/rpc/services/reflection.ts";
import { startTestListener } from "./harness.ts";

// A service whose file imports another, as the real ones do.
const importing = { ...Health, file: { ...Health.file, dependencies: [file_google_rpc_status] } };
const transport = createRouterTransport(createReflection([importing]));

type Question =
  Parameters<ReturnType<typeof createClient<typeof V1>>["serverReflectionInfo"]>[0] extends AsyncIterable<
    infer Message
  >
    ? Message
    : never;

async function ask(...questions: Question[]) {
  async function* requests() {
    yield* questions;
  }
  const answers = [];
  for await (const answer of createClient(V1, transport).serverReflectionInfo(requests())) {
    answers.push(answer.messageResponse);
  }
  return answers;
}

test.each([V1, V1Alpha])("$typeName lists the services, itself included", async (service) => {
  async function* requests() {
    yield { host: "h", messageRequest: { case: "listServices" as const, value: "*" } };
  }
  const answers = createClient(service, transport).serverReflectionInfo(requests())[Symbol.asyncIterator]();
  expect((await answers.next()).value).toMatchObject({
    validHost: "h",
    originalRequest: { host: "h", messageRequest: { case: "listServices" } },
    messageResponse: {
      value: {
        service: [
          { name: "grpc.health.v1.Health" },
          { name: "grpc.reflection.v1.ServerReflection" },
          { name: "grpc.reflection.v1alpha.ServerReflection" },
        ],
      },
    },
  });
});

test.each([
  ["a service", "grpc.health.v1.Health"],
  ["a service with a leading dot", ".grpc.health.v1.Health"],
  ["a method", "grpc.health.v1.Health.Check"],
  ["a message", "grpc.health.v1.HealthCheckResponse"],
  ["a field", "grpc.health.v1.HealthCheckResponse.status"],
  ["a nested enum", "grpc.health.v1.HealthCheckResponse.ServingStatus"],
  ["a value of a nested enum", "grpc.health.v1.HealthCheckResponse.SERVING"],
])("finds the file of %s, with everything it imports", async (_name, value) => {
  const [answer] = await ask({ messageRequest: { case: "fileContainingSymbol", value } });
  if (answer?.case !== "fileDescriptorResponse") throw new Error(`unexpected ${answer?.case}`);
  const files = answer.value.fileDescriptorProto.map(
    (bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name,
  );
  expect(files).toEqual([
    "grpc/health/v1/health.proto",
    "google/rpc/status.proto",
    "google/protobuf/any.proto",
  ]);
});

test("finds a file by its name, also one that is only imported", async () => {
  const [answer] = await ask({
    messageRequest: { case: "fileByFilename", value: "google/protobuf/any.proto" },
  });
  expect(answer?.case).toBe("fileDescriptorResponse");
});

test("reports a missing symbol or file in the stream, which continues", async () => {
  const answers = await ask(
    { messageRequest: { case: "fileContainingSymbol", value: "no.Such" } },
    { messageRequest: { case: "fileByFilename", value: "no.proto" } },
    {
      messageRequest: {
        case: "fileContainingExtension",
        value: { containingType: "grpc.health.v1.HealthCheckResponse", extensionNumber: 7 },
      },
    },
    { messageRequest: { case: "allExtensionNumbersOfType", value: "no.Such" } },
    {},
    { messageRequest: { case: "listServices", value: "" } },
  );
  const error = (errorCode: Code, errorMessage: string) => ({
    case: "errorResponse",
    value: { errorCode, errorMessage },
  });
  expect(answers).toMatchObject([
    error(Code.NotFound, 'symbol "no.Such" not found'),
    error(Code.NotFound, 'file "no.proto" not found'),
    error(Code.NotFound, 'extension 7 of "grpc.health.v1.HealthCheckResponse" not found'),
    error(Code.NotFound, 'extensions of "no.Such" not found'),
    error(Code.InvalidArgument, "the request asks for nothing"),
    { case: "listServicesResponse" },
  ]);
});

const buf = async (...args: string[]) =>
  (await promisify(execFile)("node_modules/.bin/buf", ["curl", ...args])).stdout;

test.each(["grpc-v1", "grpc-v1alpha"])(
  "buf curl learns the methods and calls one by %s",
  async (protocol) => {
    const health = createHealth({ services: [""] });
    const reflection = createReflection([Health]);
    const listener = await startTestListener((router) => {
      health.routes(router);
      reflection(router);
    });
    const methods = await buf("--reflect-protocol", protocol, "--list-methods", listener.url);
    expect(methods.split("\n")).toContain("grpc.health.v1.Health/Check");
    const answer = await buf(
      "--reflect-protocol",
      protocol,
      "-d",
      "{}",
      `${listener.url}/grpc.health.v1.Health/Check`,
    );
    expect(JSON.parse(answer)).toEqual({ status: "NOT_SERVING" });
  },
);
