import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { StoreRequestSchema } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { describe, expect, test, vi } from "vitest";
import { type ErrorReason, ServiceError } from "../../src/memory/model/errors.ts";
import { createTestClient, failingStore, rejection, stopClock } from "./harness.ts";

const fast = { retry: { firstDelayMs: 0 } };
const failure = (reason: ErrorReason, retryAfterMs?: number) =>
  new ServiceError(reason, "no", retryAfterMs === undefined ? {} : { retryAfterMs });

describe("retries", () => {
  test.each([
    ["DATABASE_UNAVAILABLE", failure("DATABASE_UNAVAILABLE", 0)],
    ["OUTCOME_UNKNOWN", failure("OUTCOME_UNKNOWN", 0)],
    ["SHUTTING_DOWN", failure("SHUTTING_DOWN", 0)],
    ["OVERLOADED with RetryInfo", failure("OVERLOADED", 0)],
    ["CONFLICT", failure("CONFLICT", 0)],
    ["Unavailable from a proxy", new ConnectError("no healthy upstream", Code.Unavailable)],
    ["a connection reset", new ConnectError("read ECONNRESET", Code.Aborted)],
  ])("after %s", async (_, error) => {
    const { store, requests } = failingStore(error, error);
    const { memory } = await createTestClient({ store }, fast).store({ content: "a" });
    expect(requests).toHaveLength(3);
    expect(memory?.id).toBe(requests[0]?.id);
  });
});

describe("does not retry", () => {
  test.each([
    ["INVALID_ARGUMENT", failure("INVALID_ARGUMENT")],
    ["OVERLOADED without RetryInfo (a request that is too large)", failure("OVERLOADED")],
    ["STORAGE_FULL", failure("STORAGE_FULL")],
    ["VERSION_MISMATCH", failure("VERSION_MISMATCH")],
    ["MEMORY_ALREADY_EXISTS", failure("MEMORY_ALREADY_EXISTS")],
    ["UNAUTHENTICATED", failure("UNAUTHENTICATED")],
    ["NOT_IMPLEMENTED", failure("NOT_IMPLEMENTED")],
    ["INTERNAL", failure("INTERNAL")],
    ["DEADLINE_EXCEEDED", failure("DEADLINE_EXCEEDED")],
  ])("after %s", async (_, error) => {
    const { store, requests } = failingStore(error);
    await rejection(createTestClient({ store }, fast).store({ content: "a" }));
    expect(requests).toHaveLength(1);
  });
});

test("Store sends the id that the client created with every attempt", async () => {
  const { store, requests } = failingStore(failure("OUTCOME_UNKNOWN", 0), failure("OUTCOME_UNKNOWN", 0));
  const id = await createTestClient({ store }, fast).storeMemory("a");
  expect(id).toMatch(/^mem_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(requests.map((request) => request.id)).toEqual([id, id, id]);
});

test("Store changes neither the request nor an id from the caller", async () => {
  const { store, requests } = failingStore();
  const client = createTestClient({ store });
  const message = create(StoreRequestSchema, { content: "a" });
  await client.store(message);
  expect(message.id).toBe("");
  await client.store({ content: "a", id: "mine" });
  expect(requests[1]?.id).toBe("mine");
});

test("the delays double up to the maximum", async () => {
  stopClock();
  const { store, requests } = failingStore(...Array(4).fill(failure("DATABASE_UNAVAILABLE")));
  const stored = createTestClient({ store }, { retry: { firstDelayMs: 100, maxDelayMs: 300 } }).store({
    content: "a",
  });
  await vi.runAllTimersAsync();
  await stored;
  expect(waitsBetween(requests)).toEqual([100, 200, 300, 300]);
});

test("each delay is a random part of its maximum", async () => {
  stopClock();
  vi.spyOn(Math, "random").mockReturnValueOnce(0).mockReturnValueOnce(0.5);
  const { store, requests } = failingStore(...Array(2).fill(failure("DATABASE_UNAVAILABLE")));
  const stored = createTestClient({ store }, { retry: { firstDelayMs: 100 } }).store({ content: "a" });
  await vi.runAllTimersAsync();
  await stored;
  expect(waitsBetween(requests)).toEqual([0, 100]);
});

test("the delay that the server asks for is added", async () => {
  stopClock();
  const { store, requests } = failingStore(failure("OVERLOADED", 4_500));
  const stored = createTestClient({ store }, { retry: { firstDelayMs: 100 } }).store({ content: "a" });
  await vi.runAllTimersAsync();
  await stored;
  expect(waitsBetween(requests)).toEqual([4_600]);
});

test("the last attempt throws the server's error", async () => {
  const { store, requests } = failingStore(...Array(9).fill(failure("DATABASE_UNAVAILABLE", 0)));
  const client = createTestClient({ store }, { retry: { firstDelayMs: 0, maxTries: 3 } });
  expect(await rejection(client.store({ content: "a" }))).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  expect(requests).toHaveLength(3);
});

test("the client does not start a delay that would end after the deadline", async () => {
  const { store, requests } = failingStore(failure("OVERLOADED", 60_000));
  const error = await rejection(createTestClient({ store }).store({ content: "a" }));
  expect(error).toMatchObject({ reason: "OVERLOADED", retryAfterMs: 60_000 });
  expect(requests).toHaveLength(1);
});

test("each attempt gets the remaining time", async () => {
  stopClock();
  const { store, requests } = failingStore(failure("OVERLOADED", 1_000), failure("OVERLOADED", 2_000));
  const client = createTestClient({ store }, { timeoutMs: 10_000, retry: { firstDelayMs: 0 } });
  const stored = client.store({ content: "a" });
  await vi.runAllTimersAsync();
  await stored;
  expect(requests.map(({ remainingMs }) => remainingMs)).toEqual([10_000, 9_000, 7_000]);
});

test("the deadline of a call defaults to 30 seconds", async () => {
  const { store, requests } = failingStore();
  const client = createTestClient({ store });
  await client.store({ content: "a" });
  await client.store({ content: "a" }, { timeoutMs: 5_000 });
  await client.store({ content: "a" }, { timeoutMs: 0 });
  const [standard = 0, own = 0, none] = requests.map(({ remainingMs }) => remainingMs);
  expect(standard).toBeGreaterThan(29_000);
  expect(standard).toBeLessThanOrEqual(30_000);
  expect(own).toBeLessThanOrEqual(5_000);
  expect(none).toBeUndefined();
});

test("a call without a response ends at its deadline", async () => {
  const client = createTestClient({ store: (_, { signal }) => endOf(signal) }, { timeoutMs: 20 });
  expect(await rejection(client.store({ content: "a" }))).toMatchObject({
    name: "MemoryServiceError",
    code: Code.DeadlineExceeded,
    reason: "DEADLINE_EXCEEDED",
  });
});

test("the caller's signal cancels a running call", async () => {
  const controller = new AbortController();
  const store = (_: unknown, { signal }: { signal: AbortSignal }) => {
    controller.abort("enough");
    return endOf(signal);
  };
  const error = await rejection(
    createTestClient({ store }).store({ content: "a" }, { signal: controller.signal }),
  );
  expect(error).toMatchObject({ code: Code.Canceled, reason: "CANCELED", cause: "enough" });
});

test.each(["the caller's signal", "closing the client"])("%s ends a delay between attempts", async (by) => {
  const controller = new AbortController();
  const { store, requests } = failingStore(failure("OVERLOADED", 20_000));
  const client = createTestClient({ store });
  const end = () => (by === "closing the client" ? client.close() : controller.abort("enough"));
  const stored = rejection(client.store({ content: "a" }, { signal: controller.signal }));
  await vi.waitFor(() => expect(requests).toHaveLength(1));
  setImmediate(end);
  expect(await stored).toMatchObject({ code: Code.Canceled });
});

test("a closed client sends nothing", async () => {
  const { store, requests } = failingStore();
  const client = createTestClient({ store });
  client.close();
  expect(await rejection(client.store({ content: "a" }))).toMatchObject({ message: "the client is closed" });
  expect(requests).toHaveLength(0);
});

test.each([
  [{ timeoutMs: -1 }, "timeoutMs"],
  [{ timeoutMs: Number.NaN }, "timeoutMs"],
  [{ retry: { maxTries: 0 } }, "retry.maxTries"],
  [{ retry: { firstDelayMs: -1 } }, "retry.firstDelayMs"],
  [{ retry: { maxDelayMs: -1 } }, "retry.maxDelayMs"],
])("%j throws an error that names the option", (options, name) => {
  expect(() => createTestClient({}, options)).toThrow(new RegExp(`^${name} must be`));
});

function waitsBetween(requests: readonly { readonly atMs: number }[]): number[] {
  return requests.slice(1).map(({ atMs }, index) => Math.round(atMs - (requests[index]?.atMs ?? 0)));
}

function endOf(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}
