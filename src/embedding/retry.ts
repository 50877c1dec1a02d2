import { type Clock, sleep } from "./clock.ts";
import { OllamaError } from "./ollama/ollama-errors.ts";

export interface RetryOptions {
  readonly clock: Clock;
  /** From 0 to below 1. Default Math.random. */
  readonly random?: () => number;
  /** Tries altogether, not counting the immediate one after a stale connection. Default 3. */
  readonly maxTries?: number;
  /** Asked before another try: false gives up with the last error. */
  readonly mayRetry?: () => boolean;
  readonly signal?: AbortSignal;
}

/**
 * Longest wait before the second, third ... try; the wait is a random part of it (full jitter), so that many servers do not
 * come back to one Ollama in step.
 */
const BACKOFF_MS = [200, 1_000, 3_000] as const;

/** Runs `attempt` again as far as its OllamaError advises. @throws the last error, or the signal's reason. */
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
