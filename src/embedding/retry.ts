import { type Clock, sleep } from "./clock.ts";
import { OllamaError } from "./ollama/ollama-errors.ts";

export interface RetryOptions {
  readonly clock: Clock;
  /** Returns a number from 0 to below 1. Defaults to Math.random. */
  readonly random?: () => number;
  /** Maximum number of attempts, not counting the immediate retry after a stale connection. Defaults to 3. */
  readonly maxTries?: number;
  /** Called before each retry; on false the last error is final. */
  readonly mayRetry?: () => boolean;
  readonly signal?: AbortSignal;
}

/**
 * Maximum pause before the second, third and further attempts, in milliseconds. The actual pause is a random part of it
 * (full jitter), so that many servers do not return to one Ollama at the same moment.
 */
const BACKOFF_MS = [200, 1_000, 3_000] as const;

/** Runs `attempt`, and retries it as its OllamaError advises. @throws the last error, or the signal's reason. */
export async function withRetries<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { clock, random = Math.random, maxTries = 3, mayRetry = () => true } = options;
  let tries = 0;
  let reconnected = false;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof OllamaError) || error.retry === "no") throw error;
      if (error.retry === "now" && !reconnected) {
        reconnected = true;
        continue;
      }
      tries += 1;
      if (tries >= maxTries || !mayRetry()) throw error;
      const longest = BACKOFF_MS[Math.min(tries, BACKOFF_MS.length) - 1] ?? 0;
      await sleep(clock, random() * longest, options.signal);
      if (!mayRetry()) throw error;
    }
  }
}
