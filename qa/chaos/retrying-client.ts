import { setTimeout as sleep } from "node:timers/promises";
import {
  Code,
  createMemoryClient,
  type MemoryClient,
  memoryServiceErrorFrom,
  type Protocol,
} from "memory-service-client";

/** A client that retries as docs/clients.md and the client's README recommend, and counts its attempts. */
export interface RetryingClient {
  /** The methods that this test calls retry automatically. */
  readonly client: MemoryClient;
  /** Runs a call of `client.raw` with the same retries. @throws MemoryServiceError */
  repeat<T>(call: (options: { readonly timeoutMs: number }) => Promise<T>): Promise<T>;
  /** Calls sent so far, including retries. */
  attempts(): number;
  close(): void;
}

const TIMEOUT_MS = 30_000;
/** The client's own defaults. */
const MAX_TRIES = 5;
const FIRST_DELAY_MS = 250;

export function createRetryingClient(baseUrl: string, protocol: Protocol): RetryingClient {
  let attempts = 0;
  const client = createMemoryClient({
    baseUrl,
    protocol,
    interceptors: [
      (next) => (request) => {
        attempts++;
        return next(request);
      },
    ],
  });
  return {
    client,
    attempts: () => attempts,
    close: () => client.close(),
    async repeat(call) {
      const deadline = performance.now() + TIMEOUT_MS;
      for (let tries = 1; ; tries++) {
        try {
          return await call({ timeoutMs: Math.max(1, Math.ceil(deadline - performance.now())) });
        } catch (caught) {
          const error = memoryServiceErrorFrom(caught);
          const { code, reason, retryAfterMs } = error;
          const mayHelp =
            code === Code.Unavailable ||
            (code === Code.ResourceExhausted && retryAfterMs !== undefined) ||
            (code === Code.Aborted && reason === "CONFLICT");
          const delayMs = (retryAfterMs ?? 0) + Math.random() * FIRST_DELAY_MS * 2 ** (tries - 1);
          if (!mayHelp || tries >= MAX_TRIES || performance.now() + delayMs >= deadline) throw error;
          await sleep(delayMs);
        }
      }
    },
  };
}
