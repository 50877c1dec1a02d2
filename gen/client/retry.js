import { Code } from "@connectrpc/connect";
import { canceledErrorFrom, memoryServiceErrorFrom } from "./errors.js";

/** @import { MemoryServiceError, RetryOptions } from "./index.js" */

/** @typedef {{ maxTries: number, firstDelayMs: number, maxDelayMs: number }} RetryPolicy */

/**
 * @param {RetryOptions} [options]
 * @returns {RetryPolicy}
 */
export function retryPolicyFrom(options = {}) {
  const { maxTries = 5, firstDelayMs = 250, maxDelayMs = 5_000 } = options;
  if (!(maxTries >= 1)) throw new TypeError("retry.maxTries must be at least 1");
  if (!(firstDelayMs >= 0)) throw new TypeError("retry.firstDelayMs must be at least 0");
  if (!(maxDelayMs >= 0)) throw new TypeError("retry.maxDelayMs must be at least 0");
  return { maxTries, firstDelayMs, maxDelayMs };
}

/**
 * Tries until it succeeds, fails for good, or would have to wait beyond the deadline.
 *
 * @template T
 * @param {object} options
 * @param {RetryPolicy} options.policy
 * @param {number} options.timeoutMs for all tries and waits together; 0: without end
 * @param {AbortSignal} options.signal ends the waits, and tells that what failed was ended on this side
 * @param {(remainingMs: number) => Promise<T>} attempt with the time that is left; 0: without end
 * @returns {Promise<T>}
 */
export async function retry({ policy, timeoutMs, signal }, attempt) {
  const deadline = timeoutMs === 0 ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
  for (let tries = 1; ; tries++) {
    if (signal.aborted) throw canceledErrorFrom(signal.reason);
    try {
      return await attempt(timeoutMs === 0 ? 0 : Math.max(1, Math.ceil(deadline - performance.now())));
    } catch (caught) {
      if (signal.aborted) throw canceledErrorFrom(signal.reason);
      const error = memoryServiceErrorFrom(caught);
      if (!isRetryable(error) || tries >= policy.maxTries) throw error;
      const delayMs = (error.retryAfterMs ?? 0) + backOffMs(policy, tries);
      if (performance.now() + delayMs >= deadline) throw error;
      await wait(delayMs, signal);
    }
  }
}

/** @param {MemoryServiceError} error */
function isRetryable(error) {
  switch (error.code) {
    case Code.Unavailable:
      return true;
    case Code.ResourceExhausted:
      // Without RetryInfo it is a message too large, a full disk: the same again cannot help.
      return error.retryAfterMs !== undefined;
    case Code.Aborted:
      return error.reason === "CONFLICT";
    default:
      return false;
  }
}

/**
 * Full jitter: clients that failed together do not come back together.
 *
 * @param {RetryPolicy} policy
 * @param {number} tries
 */
function backOffMs({ firstDelayMs, maxDelayMs }, tries) {
  return Math.random() * Math.min(maxDelayMs, firstDelayMs * 2 ** (tries - 1));
}

/**
 * @param {number} delayMs
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function wait(delayMs, signal) {
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
