import { Code } from "@connectrpc/connect";
import { memoryServiceErrorFrom } from "./convert-error.ts";
import { canceledErrorFrom, type MemoryServiceError } from "./errors.ts";

/**
 * When and how often to retry a failed call.
 *
 * The client retries errors that may be temporary: Unavailable and lost connections, ResourceExhausted with a
 * RetryInfo, and Aborted with the reason CONFLICT. It waits as long as the server asks for, plus a random part of a
 * delay that doubles with every attempt. It never waits beyond the deadline.
 */
export interface RetryOptions {
  /** Maximum number of attempts, including the first. 1 disables retries. Defaults to 5. */
  readonly maxTries?: number | undefined;

  /** Longest delay before the second attempt, in milliseconds. Defaults to 250. */
  readonly firstDelayMs?: number | undefined;

  /** Longest delay before any attempt, in milliseconds. Defaults to 5,000. */
  readonly maxDelayMs?: number | undefined;
}

/** RetryOptions with all defaults filled in. */
export interface RetryPolicy {
  readonly maxTries: number;
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
}

/**
 * Fills in the defaults.
 *
 * @throws TypeError if an option is out of range.
 */
export function retryPolicyFrom(options: RetryOptions = {}): RetryPolicy {
  const { maxTries = 5, firstDelayMs = 250, maxDelayMs = 5_000 } = options;
  assertAtLeast(1, "retry.maxTries", maxTries);
  assertAtLeast(0, "retry.firstDelayMs", firstDelayMs);
  assertAtLeast(0, "retry.maxDelayMs", maxDelayMs);
  return { maxTries, firstDelayMs, maxDelayMs };
}

/** Limits of the attempts of one call. */
export interface RetryLimits {
  readonly policy: RetryPolicy;

  /** Deadline in milliseconds for all attempts and the delays between them. 0 means none. */
  readonly timeoutMs: number;

  /** Ends the delays when aborted. An attempt that fails after that counts as canceled. */
  readonly signal: AbortSignal;
}

/**
 * Runs a call until an attempt succeeds, an error is not retryable, the attempts are used up, or the next delay would
 * end after the deadline.
 *
 * @param attempt Runs one attempt within the remaining time, in milliseconds. 0 means no deadline.
 * @throws MemoryServiceError of the last attempt.
 */
export async function retry<T>(
  { policy, timeoutMs, signal }: RetryLimits,
  attempt: (remainingMs: number) => Promise<T>,
): Promise<T> {
  const deadline = timeoutMs === 0 ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
  for (let tries = 1; ; tries++) {
    if (signal.aborted) throw canceledErrorFrom(signal.reason);
    try {
      return await attempt(timeoutMs === 0 ? 0 : Math.max(1, Math.ceil(deadline - performance.now())));
    } catch (caught) {
      if (signal.aborted) throw canceledErrorFrom(signal.reason);
      const error = memoryServiceErrorFrom(caught);
      if (!isRetryable(error) || tries >= policy.maxTries) throw error;
      const delayMs = (error.retryAfterMs ?? 0) + backoffMs(policy, tries);
      if (performance.now() + delayMs >= deadline) throw error;
      await wait(delayMs, signal);
    }
  }
}

function isRetryable(error: MemoryServiceError): boolean {
  switch (error.code) {
    case Code.Unavailable:
      return true;
    case Code.ResourceExhausted:
      // Without RetryInfo a retry cannot help: the message is too large or the disk is full.
      return error.retryAfterMs !== undefined;
    case Code.Aborted:
      return error.reason === "CONFLICT";
    default:
      return false;
  }
}

/** Returns an exponential delay with full jitter, so that clients that failed together do not retry together. */
function backoffMs({ firstDelayMs, maxDelayMs }: RetryPolicy, tries: number): number {
  return Math.random() * Math.min(maxDelayMs, firstDelayMs * 2 ** (tries - 1));
}

function wait(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(canceledErrorFrom(signal.reason));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    }, delayMs);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}

function assertAtLeast(minimum: number, name: string, value: number): void {
  // Negated, so that NaN fails too.
  if (!(value >= minimum)) throw new TypeError(`${name} must be at least ${minimum}, got ${value}`);
}
