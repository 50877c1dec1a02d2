import { Code, ConnectError } from "@connectrpc/connect";
import { MemoryServiceError, memoryServiceErrorFrom } from "memory-service-client";
import { ErrorReason } from "memory-service-client/memoryservice/v1/error_reason_pb.js";
import { describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "../../src/generated/google/rpc/error_details_pb.ts";
import { ServiceError } from "../../src/memory/model/errors.ts";
import { codeByReason, connectErrorFrom } from "../../src/rpc/interceptors/errors.ts";
import { createTestClient, rejection } from "./harness.ts";

/** Returns the error that a client throws when a handler throws `error`. */
function received(error: unknown): Promise<unknown> {
  const store = () => {
    throw error;
  };
  return rejection(createTestClient({ store }, { retry: { maxTries: 1 } }).store({ content: "a" }));
}

const reasons = Object.keys(codeByReason) as (keyof typeof codeByReason)[];

test("every reason in the contract arrives with its code", async () => {
  for (const reason of reasons) {
    const error = await received(new ServiceError(reason, "what happened"));
    expect(error).toBeInstanceOf(MemoryServiceError);
    expect(error).toMatchObject({ code: codeByReason[reason], reason });
  }
  const known = Object.keys(ErrorReason).filter((key) => Number.isNaN(Number(key)) && key !== "UNSPECIFIED");
  expect(known.toSorted()).toEqual(reasons.toSorted());
});

test("all details arrive unchanged", async () => {
  const violations = [
    { field: "content", description: "must not be empty" },
    { field: "tags[3]", description: "must have 1 to 64 characters, has 65 \u{1f9e0}" },
  ];
  const metadata = { id: "m1", domain: "", fields: "content,tags" };
  const options = { violations, metadata, retryAfterMs: 90_061_500 };
  expect(await received(new ServiceError("INVALID_ARGUMENT", "two rules are broken", options))).toMatchObject(
    {
      name: "MemoryServiceError",
      message: "two rules are broken",
      violations,
      metadata,
      retryAfterMs: 90_061_500,
      cause: expect.any(ConnectError),
    },
  );
});

test("an error without details has no violations and no metadata", async () => {
  expect(await received(new ServiceError("NOT_IMPLEMENTED", "no"))).toMatchObject({
    violations: [],
    metadata: {},
    retryAfterMs: undefined,
  });
});

test("the request id comes from the response headers", () => {
  const error = new ConnectError("internal error", Code.Internal, { "x-request-id": "r-1" });
  expect(memoryServiceErrorFrom(error).requestId).toBe("r-1");
});

describe("the reason is undefined if it", () => {
  const info = (domain: string, reason: string) => ({ desc: ErrorInfoSchema, value: { domain, reason } });
  test.each([
    ["is newer than the client", [info("memoryservice.v1", "TOO_SLEEPY")]],
    ["is UNSPECIFIED", [info("memoryservice.v1", "UNSPECIFIED")]],
    ["is a number", [info("memoryservice.v1", "3")]],
    ["is a property of every object", [info("memoryservice.v1", "constructor")]],
    ["belongs to another service", [info("example.com", "MEMORY_NOT_FOUND")]],
  ])("%s", async (_, details) => {
    const error = await received(new ConnectError("no", Code.NotFound, undefined, details));
    expect(error).toMatchObject({ code: Code.NotFound, reason: undefined });
  });
});

test("a damaged detail does not hide the error", () => {
  const whole = connectErrorFrom(new ServiceError("MEMORY_NOT_FOUND", "no memory m1"));
  for (const type of ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"]) {
    whole.details = [{ type, value: new Uint8Array([0x0a, 0xff, 0x01]) }];
    expect(memoryServiceErrorFrom(whole)).toMatchObject({ code: Code.NotFound, message: "no memory m1" });
  }
});

test("fields that the client does not know are skipped", () => {
  // RetryInfo { retry_delay { seconds: 2 } } between two unknown fields: a varint and a string.
  const value = new Uint8Array([0x78, 0x05, 0x0a, 0x02, 0x08, 0x02, 0x7a, 0x01, 0x61]);
  const error = new ConnectError("no", Code.Unavailable);
  error.details = [{ type: "google.rpc.RetryInfo", value }];
  expect(memoryServiceErrorFrom(error).retryAfterMs).toBe(2_000);
});

test.each([
  ["a reset connection", new ConnectError("read ECONNRESET", Code.Aborted)],
  ["a stream that the server canceled", new ConnectError("http/2 stream closed", Code.Canceled)],
  [
    "a stream that a closing connection refused",
    new ConnectError("closed", Code.Internal, undefined, undefined, new Error("code NGHTTP2_REFUSED_STREAM")),
  ],
  ["a fetch that did not reach a server", new TypeError("fetch failed")],
])("%s becomes Unavailable", (_, error) => {
  expect(memoryServiceErrorFrom(error)).toMatchObject({ code: Code.Unavailable, reason: undefined });
});
