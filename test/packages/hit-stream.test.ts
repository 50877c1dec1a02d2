import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { HitStream } from "memory-service-client";
import { SearchMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { expect, test, vi } from "vitest";
import { ServiceError } from "../../src/memory/model/errors.ts";
import { createTestClient, rejection, stopClock } from "./harness.ts";

const info = { item: { case: "info" as const, value: { modeUsed: SearchMode.TEXT } } };
const hit = (id: string) => ({ item: { case: "hit" as const, value: { memory: { id }, score: 1 } } });
const summary = (sent: number) => ({ item: { case: "summary" as const, value: { sent, skipped: 0 } } });

async function idsOf(hits: HitStream): Promise<(string | undefined)[]> {
  const ids = [];
  for await (const { memory } of hits) ids.push(memory?.id);
  return ids;
}

test("hits arrive one by one, with info from the first hit and the summary at the end", async () => {
  const client = createTestClient({
    async *streamSearch() {
      yield* [info, hit("a"), hit("b"), summary(2)];
    },
  });
  const hits = client.streamSearch({ query: "q" });
  expect(hits.info).toBeUndefined();
  const seen = [];
  for await (const { memory } of hits) seen.push([memory?.id, hits.info?.modeUsed, hits.summary]);
  expect(seen).toEqual([
    ["a", SearchMode.TEXT, undefined],
    ["b", SearchMode.TEXT, undefined],
  ]);
  expect(hits.summary?.sent).toBe(2);
  expect(await idsOf(hits)).toEqual([]);
});

test("a stream without hits still has info", async () => {
  const client = createTestClient({
    async *streamSearch() {
      yield* [info, summary(0)];
    },
  });
  const hits = client.streamSearch({ query: "q" });
  expect(await idsOf(hits)).toEqual([]);
  expect(hits.info?.modeUsed).toBe(SearchMode.TEXT);
});

test("the call starts when the iteration starts", () => {
  const streamSearch = vi.fn();
  createTestClient({ streamSearch }).streamSearch({ query: "q" });
  expect(streamSearch).not.toHaveBeenCalled();
});

test("a stream that fails before its first message is retried", async () => {
  let tries = 0;
  const client = createTestClient(
    {
      async *streamSearch() {
        if (++tries < 3) throw new ServiceError("DATABASE_UNAVAILABLE", "unavailable", { retryAfterMs: 0 });
        yield* [info, hit("a"), summary(1)];
      },
    },
    { retry: { firstDelayMs: 0 } },
  );
  expect(await idsOf(client.streamSearch({ query: "q" }))).toEqual(["a"]);
  expect(tries).toBe(3);
});

test("a stream that fails after its first message is not retried", async () => {
  let tries = 0;
  const client = createTestClient(
    {
      async *streamSearch() {
        tries++;
        yield info;
        throw new ServiceError("DATABASE_UNAVAILABLE", "unavailable", { retryAfterMs: 0 });
      },
    },
    { retry: { firstDelayMs: 0 } },
  );
  expect(await rejection(idsOf(client.streamSearch({ query: "q" })))).toMatchObject({
    name: "MemoryServiceError",
    reason: "DATABASE_UNAVAILABLE",
  });
  expect(tries).toBe(1);
});

test("a stream that fails with a permanent error is not retried", async () => {
  const streamSearch = vi.fn(async function* () {
    yield* [];
    throw new ServiceError("INVALID_ARGUMENT", "limit is too large");
  });
  const error = await rejection(idsOf(createTestClient({ streamSearch }).streamSearch({ query: "q" })));
  expect(error).toMatchObject({ code: Code.InvalidArgument });
  expect(streamSearch).toHaveBeenCalledTimes(1);
});

test("a stream that ends without a summary is an error", async () => {
  const client = createTestClient({
    async *streamSearch() {
      yield* [info, hit("a")];
    },
  });
  expect(await rejection(idsOf(client.streamSearch({ query: "q" })))).toMatchObject({
    code: Code.Unavailable,
    message: "the stream ended before its summary",
  });
});

test("leaving the loop early cancels the call on the server", async () => {
  const ended = Promise.withResolvers<void>();
  const client = createTestClient({
    async *streamSearch(_, { signal }: HandlerContext) {
      signal.addEventListener("abort", () => ended.resolve());
      yield* [info, hit("a"), hit("b"), hit("c"), summary(3)];
    },
  });
  for await (const _ of client.streamSearch({ query: "q" })) break;
  await ended.promise;
});

test("a server that stays silent for too long causes DeadlineExceeded", async () => {
  const client = createTestClient(
    {
      async *streamSearch(_, { signal }: HandlerContext) {
        yield* [info, hit("a")];
        await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      },
    },
    { timeoutMs: 20 },
  );
  expect(await rejection(idsOf(client.streamSearch({ query: "q" })))).toMatchObject({
    code: Code.DeadlineExceeded,
    reason: "DEADLINE_EXCEEDED",
    message: "no message arrived within 20 ms",
  });
});

test("a slow reader does not cause DeadlineExceeded", async () => {
  stopClock();
  const client = createTestClient(
    {
      async *streamSearch(_, context: HandlerContext) {
        expect(context.timeoutMs()).toBeUndefined();
        yield* [info, hit("a"), hit("b"), summary(2)];
      },
    },
    { timeoutMs: 1_000 },
  );
  let count = 0;
  for await (const _ of client.streamSearch({ query: "q" })) {
    count++;
    await vi.advanceTimersByTimeAsync(60_000);
  }
  expect(count).toBe(2);
});

test.each(["the caller's signal", "closing the client"])("%s cancels a stream", async (by) => {
  const controller = new AbortController();
  const client = createTestClient({
    async *streamSearch(_, { signal }: HandlerContext) {
      yield* [info, hit("a")];
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    },
  });
  const reading = async () => {
    for await (const _ of client.streamSearch({ query: "q" }, { signal: controller.signal })) {
      if (by === "closing the client") client.close();
      else controller.abort(new ConnectError("enough", Code.Canceled));
    }
  };
  expect(await rejection(reading())).toMatchObject({ code: Code.Canceled, reason: "CANCELED" });
});
