import type { Clock } from "./clock.ts";

/**
 * - `closed`: calls go through.
 * - `open`: calls fail at once.
 * - `half-open`: one probe is under way, everybody else still fails at once.
 */
export type CircuitState = "closed" | "open" | "half-open";

export interface CircuitBreakerOptions {
  readonly clock: Clock;
  readonly onChange?: (state: CircuitState) => void;
}

/** Failures in a row that open the circuit. */
const FAILURE_THRESHOLD = 3;
/** First wait before a probe. Doubles with each failed probe. */
const MIN_BACKOFF_MS = 1_000;
/** Longest wait before a probe. */
const MAX_BACKOFF_MS = 30_000;

/** Remembers that a server is away, so that asking it costs nothing until it may be back. */
export interface CircuitBreaker {
  readonly state: CircuitState;
  /** Milliseconds until a probe is allowed; 0 if it is, or if the circuit is closed. */
  readonly retryInMs: number;
  /** The server answered. Closes the circuit. */
  succeeded(): void;
  /** The server did not answer, or not sensibly. `trip` opens at once, for failures too slow to be counted. */
  failed(options?: { readonly trip?: boolean }): void;
  /** True for the one caller that may probe now. It has to report `succeeded`, `failed` or `abandoned`. */
  tryProbe(): boolean;
  /** The probe ended without telling anything. */
  abandoned(): void;
  /** Allows a probe at once: something else has shown that the server is back. */
  hurry(): void;
}

export function createCircuitBreaker(options: CircuitBreakerOptions): CircuitBreaker {
  const { clock } = options;
  let state: CircuitState = "closed";
  let failures = 0;
  let backoffMs = MIN_BACKOFF_MS;
  let retryAt = 0;

  function become(next: CircuitState) {
    if (next === state) return;
    state = next;
    options.onChange?.(next);
  }

  return {
    get state() {
      return state;
    },
    get retryInMs() {
      return state === "closed" ? 0 : Math.max(0, retryAt - clock.now());
    },
    succeeded() {
      failures = 0;
      backoffMs = MIN_BACKOFF_MS;
      become("closed");
    },
    failed({ trip = false } = {}) {
      failures += 1;
      // A call that began before the circuit opened says nothing new.
      if (state === "open") return;
      if (state === "half-open") backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
      else if (!trip && failures < FAILURE_THRESHOLD) return;
      retryAt = clock.now() + backoffMs;
      become("open");
    },
    tryProbe() {
      if (state !== "open" || clock.now() < retryAt) return false;
      become("half-open");
      return true;
    },
    abandoned() {
      if (state === "half-open") become("open");
    },
    hurry() {
      backoffMs = MIN_BACKOFF_MS;
      retryAt = clock.now();
    },
  };
}
