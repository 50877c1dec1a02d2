import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type DescField, type DescFile, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  DomainService,
  file_memoryservice_v1_domain_service,
} from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import {
  ErrorReasonSchema,
  file_memoryservice_v1_error_reason,
} from "memory-service-client/memoryservice/v1/error_reason_pb.js";
import { file_memoryservice_v1_filter } from "memory-service-client/memoryservice/v1/filter_pb.js";
import { file_memoryservice_v1_memory } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  file_memoryservice_v1_memory_service,
  MemoryService,
  SearchRequestSchema,
  StreamSearchRequestSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import {
  file_memoryservice_v1_server_service,
  ServerService,
} from "memory-service-client/memoryservice/v1/server_service_pb.js";
import { describe, expect, test } from "vitest";
import { codeByReason } from "../../src/rpc/interceptors/errors.ts";

const protoDirectory = join(import.meta.dirname, "../../proto");

const files: readonly DescFile[] = [
  file_memoryservice_v1_domain_service,
  file_memoryservice_v1_error_reason,
  file_memoryservice_v1_filter,
  file_memoryservice_v1_memory,
  file_memoryservice_v1_memory_service,
  file_memoryservice_v1_server_service,
];

describe("files of the contract", () => {
  test("are all listed in this test", () => {
    const onDisk = readdirSync(protoDirectory, { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".proto"))
      .sort();
    expect(onDisk).toEqual(files.map((file) => `${file.name}.proto`));
  });

  test.each(files)("$name has the options for every language", (file) => {
    expect(file.proto.options).toMatchObject({
      goPackage: "github.com/memory-service/memory-service/gen/go/memoryservice/v1;memoryservicev1",
      javaPackage: "com.memoryservice.v1",
      javaMultipleFiles: true,
      csharpNamespace: "MemoryService.V1",
    });
  });

  test.each(files)("$name imports only well-known types and files of the contract", (file) => {
    const foreign = file.proto.dependency.filter(
      (path) => !path.startsWith("google/protobuf/") && !path.startsWith("memoryservice/v1/"),
    );
    expect(foreign).toEqual([]);
  });
});

describe("StreamSearchRequest", () => {
  test("has the same fields as SearchRequest, with the same names, numbers and types", () => {
    expect(shapeOf(StreamSearchRequestSchema)).toEqual(shapeOf(SearchRequestSchema));
  });

  test("has the same comments as SearchRequest", () => {
    const source = readFileSync(join(protoDirectory, "memoryservice/v1/memory_service.proto"), "utf8");
    expect(bodyOf("StreamSearchRequest", source)).toBe(bodyOf("SearchRequest", source));
  });
});

describe("ErrorReason", () => {
  const names = ErrorReasonSchema.values.map((value) => value.name.slice("ERROR_REASON_".length));

  test("has the reasons that the service uses, in any order", () => {
    expect(names.filter((name) => name !== "UNSPECIFIED").sort()).toEqual(Object.keys(codeByReason).sort());
  });

  const source = readFileSync(join(protoDirectory, "memoryservice/v1/error_reason.proto"), "utf8");
  test.each(Object.entries(codeByReason))("%s states its status code in its comment", (reason, code) => {
    expect(commentAbove(`ERROR_REASON_${reason} =`, source)).toMatch(
      new RegExp(`\\. The status code is ${Code[code]}[.,]`),
    );
  });
});

describe("methods", () => {
  const methods = [MemoryService, DomainService, ServerService].flatMap((service) => service.methods);

  test.each(methods)("$name has its own request and response message", (method) => {
    expect([method.input.name, method.output.name]).toEqual([
      `${method.name}Request`,
      `${method.name}Response`,
    ]);
  });

  test("that only read are declared NO_SIDE_EFFECTS", () => {
    const reads = methods.filter((method) => method.idempotency === IdempotencyLevel.NO_SIDE_EFFECTS);
    expect(reads.map((method) => method.name)).toEqual([
      "Get",
      "List",
      "Search",
      "StreamSearch",
      "Export",
      "GetDomain",
      "ListDomains",
      "GetServerInfo",
    ]);
  });

  test("that are not safe to retry are not declared IDEMPOTENT", () => {
    const unknown = methods.filter((method) => method.idempotency === IdempotencyLevel.IDEMPOTENCY_UNKNOWN);
    expect(unknown.map((method) => method.name)).toEqual(["Store", "BatchStore", "Update", "DeleteDomain"]);
  });
});

/** Returns everything that a client sees of the fields of a message, on the wire and in JSON. */
function shapeOf(message: DescMessage): unknown[] {
  return message.fields.map((field) => ({
    name: field.name,
    jsonName: field.jsonName,
    number: field.number,
    kind: field.fieldKind,
    type: typeOf(field),
    presence: field.presence,
    oneof: field.oneof?.name,
  }));
}

function typeOf(field: DescField): string {
  if (field.message !== undefined) return field.message.typeName;
  if (field.enum !== undefined) return field.enum.typeName;
  return field.scalar === undefined ? "" : ScalarType[field.scalar];
}

/** Returns the lines of a message that has no nested messages. */
function bodyOf(message: string, source: string): string | undefined {
  return new RegExp(`^message ${message} \\{\\n(.*?)^\\}`, "ms").exec(source)?.[1];
}

/** Returns the comment above the line that begins with `text`, joined into one line. */
function commentAbove(text: string, source: string): string {
  const lines = source.split("\n").map((line) => line.trim());
  const end = lines.findIndex((line) => line.startsWith(text));
  let start = end;
  while (lines[start - 1]?.startsWith("//")) start--;
  return lines
    .slice(start, end)
    .map((line) => line.slice(3))
    .join(" ");
}
