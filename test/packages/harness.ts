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

/** A client of handlers in this process, which fail as those of the server do. */
export function clientOf(
  implementation: Implementation,
  options: Omit<MemoryClientOptions, "baseUrl" | "transport" | "apiKey" | "protocol" | "interceptors"> = {},
): MemoryClient {
  const transport = createRouterTransport((router) => router.service(MemoryService, implementation), {
    router: { interceptors: [createErrorInterceptor({ logger: silentLogger })] },
  });
  return createMemoryClient({ transport, ...options });
}

/** A Store that fails as often as there are errors, then stores. `requests` are all it was sent. */
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

/** Stops the clock: waits end when the test says so. Jitter is the longest possible. */
export function stopClock(): void {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(1);
}

/** What a promise is rejected with. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  const none = Symbol("resolved");
  const error = await promise.then(
    () => none,
    (reason: unknown) => reason,
  );
  if (error === none) throw new Error("resolved where it should have been rejected");
  return error;
}
