import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { createRouterTransport } from "@connectrpc/connect";
import { createMemoryClient, type MemoryClient, type MemoryClientOptions } from "memory-service-client";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterEach, vi } from "vitest";
import { createErrorInterceptor } from "../../src/rpc/interceptors/errors.ts";
import { silentLogger } from "../support/silent-logger.ts";

type Implementation = Partial<ServiceImpl<typeof MemoryService>>;

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** Creates a client of handlers in this process. Their errors become responses as in the server. */
export function createTestClient(
  implementation: Implementation,
  options: Omit<MemoryClientOptions, "baseUrl" | "transport" | "apiKey" | "protocol" | "interceptors"> = {},
): MemoryClient {
  const transport = createRouterTransport((router) => router.service(MemoryService, implementation), {
    router: { interceptors: [createErrorInterceptor({ logger: silentLogger })] },
  });
  return createMemoryClient({ transport, ...options });
}

/** Creates a Store handler that throws each error once and then succeeds. It records its requests in `requests`. */
export function failingStore(...errors: readonly unknown[]) {
  const requests: { readonly id: string; readonly remainingMs: number | undefined; readonly atMs: number }[] =
    [];
  return {
    requests,
    store: ({ id }: { readonly id: string }, context: HandlerContext) => {
      requests.push({ id, remainingMs: context.timeoutMs(), atMs: performance.now() });
      const error = errors[requests.length - 1];
      if (error !== undefined) throw error;
      return { memory: { id } };
    },
  };
}

/** Stops the clock, so that the test decides when a delay ends, and makes every random delay as long as possible. */
export function stopClock(): void {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(1);
}

/** Returns the error that rejects a promise. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  const none = Symbol("resolved");
  const error = await promise.then(
    () => none,
    (reason: unknown) => reason,
  );
  if (error === none) throw new Error("expected a rejection, but the promise resolved");
  return error;
}
