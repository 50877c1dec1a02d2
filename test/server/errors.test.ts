import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../src/generated/google/rpc/error_details_pb.ts";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { type ErrorReason, ServiceError } from "../../src/memory/model/errors.ts";
import { codeByReason, connectErrorFrom, createErrorInterceptor } from "../../src/rpc/interceptors/errors.ts";
import { createLogRecorder } from "./harness.ts";

const expectedCodes: Record<ErrorReason, Code> = {
  INVALID_ARGUMENT: Code.InvalidArgument,
  INVALID_PAGE_TOKEN: Code.InvalidArgument,
  MEMORY_NOT_FOUND: Code.NotFound,
  DOMAIN_NOT_FOUND: Code.NotFound,
  MEMORY_ALREADY_EXISTS: Code.AlreadyExists,
  DOMAIN_ALREADY_EXISTS: Code.AlreadyExists,
  VERSION_MISMATCH: Code.Aborted,
  CONFLICT: Code.Aborted,
  SCHEMA_MISMATCH: Code.FailedPrecondition,
  RESPONSE_TOO_LARGE: Code.FailedPrecondition,
  DOMAIN_LIMIT_REACHED: Code.ResourceExhausted,
  OVERLOADED: Code.ResourceExhausted,
  STORAGE_FULL: Code.ResourceExhausted,
  DATABASE_UNAVAILABLE: Code.Unavailable,
  EMBEDDER_UNAVAILABLE: Code.Unavailable,
  OUTCOME_UNKNOWN: Code.Unavailable,
  SHUTTING_DOWN: Code.Unavailable,
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  CANCELED: Code.Canceled,
  AUTHENTICATION_UNAVAILABLE: Code.Unavailable,
  UNAUTHENTICATED: Code.Unauthenticated,
  PERMISSION_DENIED: Code.PermissionDenied,
  HOST_NOT_ALLOWED: Code.PermissionDenied,
  NOT_IMPLEMENTED: Code.Unimplemented,
  INTERNAL: Code.Internal,
};

const reasons = Object.keys(codeByReason) as ErrorReason[];

describe("connectErrorFrom", () => {
  test.each(reasons)("answers %s with its code and an ErrorInfo", (reason) => {
    const error = connectErrorFrom(new ServiceError(reason, "m", { metadata: { key: "value" } }));
    expect(error.code).toBe(expectedCodes[reason]);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
      { reason, domain: "memoryservice.v1", metadata: { key: "value" } },
    ]);
    expect(error.findDetails(RetryInfoSchema)).toEqual([]);
  });

  test("names every field that broke a rule", () => {
    const violations = [
      { field: "content", description: "must not be empty" },
      { field: "items[3].id", description: "must have 1 to 50 characters, has 64" },
    ];
    const error = connectErrorFrom(new ServiceError("INVALID_ARGUMENT", "m", { violations }));
    expect(error.findDetails(BadRequestSchema)).toMatchObject([{ fieldViolations: violations }]);
  });

  test("omits violations that do not fit into HTTP trailers, but never the first", () => {
    const violations = Array.from({ length: 1_000 }, (_, i) => ({
      field: `items[${i}].content`,
      description: "x".repeat(5_000),
    }));
    const [detail] = connectErrorFrom(new ServiceError("INVALID_ARGUMENT", "m", { violations })).findDetails(
      BadRequestSchema,
    );
    expect(detail?.fieldViolations[0]?.field).toBe("items[0].content");
    expect(JSON.stringify(detail?.fieldViolations).length).toBeLessThan(4_000);
  });

  test("replaces lone surrogates, which no protocol can send", () => {
    const error = connectErrorFrom(
      new ServiceError("INVALID_ARGUMENT", "bad \ud800", {
        metadata: { key: "\ud800" },
        violations: [{ field: "metadata.\ud800", description: "bad \udc00" }],
      }),
    );
    expect(error.rawMessage).toBe("bad \ufffd");
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ metadata: { key: "\ufffd" } }]);
    expect(error.findDetails(BadRequestSchema)).toMatchObject([
      { fieldViolations: [{ field: "metadata.\ufffd", description: "bad \ufffd" }] },
    ]);
  });

  test("says when to retry", () => {
    const error = connectErrorFrom(new ServiceError("DATABASE_UNAVAILABLE", "m", { retryAfterMs: 1_250 }));
    expect(error.findDetails(RetryInfoSchema)).toMatchObject([
      { retryDelay: { seconds: 1n, nanos: 250_000_000 } },
    ]);
  });

  test("keeps the code and message of a ConnectError", () => {
    const original = new ConnectError("too long", Code.ResourceExhausted);
    expect(connectErrorFrom(original)).toBe(original);
  });

  test.each([
    [Code.Unimplemented, "NOT_IMPLEMENTED"],
    [Code.DeadlineExceeded, "DEADLINE_EXCEEDED"],
    [Code.Canceled, "CANCELED"],
  ])("adds the reason to connect's own code %i", (code, reason) => {
    const error = connectErrorFrom(new ConnectError("m", code));
    expect(error.rawMessage).toBe("m");
    expect(error.code).toBe(code);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason }]);
  });

  test.each([
    ["a defect", new TypeError("secret of the driver")],
    ["a thrown string", "secret of the driver"],
    ["an INTERNAL service error", new ServiceError("INTERNAL", "secret of the driver")],
  ])("hides %s behind a fixed text", (_name, thrown) => {
    const error = connectErrorFrom(thrown);
    expect(error.code).toBe(Code.Internal);
    expect(error.rawMessage).toBe("internal error");
    expect(JSON.stringify(error.findDetails(ErrorInfoSchema))).not.toContain("secret");
  });

  test("keeps the cause of a defect for the log", () => {
    const cause = new TypeError("secret of the driver");
    expect(connectErrorFrom(cause).cause).toBe(cause);
  });

  const abortError = new DOMException("aborted", "AbortError");
  test.each([
    ["an abort without a signal", abortError, undefined, Code.Canceled],
    [
      "a time-out without a signal",
      new DOMException("late", "TimeoutError"),
      undefined,
      Code.DeadlineExceeded,
    ],
    ["an abort, after the client left", abortError, AbortSignal.abort(), Code.Canceled],
    [
      "an abort, after the deadline",
      abortError,
      AbortSignal.abort(new ConnectError("late", Code.DeadlineExceeded)),
      Code.DeadlineExceeded,
    ],
    [
      "an abort, while shutting down",
      abortError,
      AbortSignal.abort(new ConnectError("bye", Code.Unavailable)),
      Code.Unavailable,
    ],
    [
      "a connection that broke, after the client left",
      Object.assign(new Error("aborted"), { code: "ECONNRESET" }),
      AbortSignal.abort(),
      Code.Canceled,
    ],
    ["a defect, after the client left", new TypeError("oops"), AbortSignal.abort(), Code.Internal],
  ])("answers %s", (_name, thrown, signal, code) => {
    expect(connectErrorFrom(thrown, signal).code).toBe(code);
  });
});

describe("the error interceptor", () => {
  const log = createLogRecorder();
  const boom = new TypeError("secret");
  const client = createClient(
    Health,
    createRouterTransport(
      ({ service }) => {
        service(Health, {
          check: ({ service: name }) => {
            throw name === "boom" ? boom : new ServiceError("MEMORY_NOT_FOUND", "no such memory");
          },
          async *watch({ service: name }) {
            yield { status: 1 };
            throw name === "boom" ? boom : new ServiceError("MEMORY_NOT_FOUND", "no such memory");
          },
        });
      },
      { router: { interceptors: [createErrorInterceptor(log)] } },
    ),
  );
  const watchAll = async (service: string) => {
    let count = 0;
    for await (const _ of client.watch({ service })) count++;
    return count;
  };
  const calls = {
    "a unary call": (service: string) => client.check({ service }),
    "a stream that has begun": watchAll,
    "a method without a handler": () => client.list({}),
  };

  test.each([
    ["a unary call", "x", Code.NotFound, "MEMORY_NOT_FOUND"],
    ["a stream that has begun", "x", Code.NotFound, "MEMORY_NOT_FOUND"],
    ["a method without a handler", "x", Code.Unimplemented, "NOT_IMPLEMENTED"],
    ["a unary call", "boom", Code.Internal, "INTERNAL"],
    ["a stream that has begun", "boom", Code.Internal, "INTERNAL"],
  ] as const)("converts what %s throws for %s", async (kind, service, code, reason) => {
    const error = ConnectError.from(await calls[kind](service).catch((thrown: unknown) => thrown));
    expect(error.code).toBe(code);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason }]);
  });

  test("logs the cause of defects only", async () => {
    log.lines.length = 0;
    await Promise.allSettled([client.check({ service: "boom" }), watchAll("boom"), watchAll("x")]);
    expect(log.lines).toMatchObject([
      { level: "error", fields: { err: boom, method: "grpc.health.v1.Health/Check" } },
      { level: "error", fields: { err: boom, method: "grpc.health.v1.Health/Watch" } },
    ]);
  });
});
