import type { Clock } from "./clock.ts";

/**
 * - `closed`: calls pass.
 * - `open`: calls fail at once.
 * - `half-open`: one probe is running; all other calls still fail at once.
 */
export type CircuitState = "closed" | "open" | "half-open";

export interface CircuitBreakerOptions {
  readonly clock: Clock;
  readonly onChange?: (state: CircuitState) => void;
}

/** Consecutive failures that open the circuit. */
const FAILURE_THRESHOLD = 3;
/** Initial pause before a probe. It doubles with each failed probe. */
const MIN_BACKOFF_MS = 1_000;
/** Maximum pause before a probe. */
const MAX_BACKOFF_MS = 30_000;

/** Remembers that a server is unavailable, so that calls fail at once until it may have recovered. */
export interface CircuitBreaker {
  readonly state: CircuitState;
  /** Milliseconds until a probe is allowed; 0 if it is, or if the circuit is closed. */
  readonly retryInMs: number;
  /** The server answered. Closes the circuit. */
  succeeded(): void;
  /** The server did not answer, or its answer was invalid. `trip` opens the circuit at once, for failures too slow to count. */
  failed(options?: { readonly trip?: boolean }): void;
  /** Returns true for the one caller that may probe now. That caller must report `succeeded`, `failed` or `abandoned`. */
  tryProbe(): boolean;
  /** The probe ended without a result. */
  abandoned(): void;
  /** Allows a probe at once, because something else has shown that the server runs again. */
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
      // A call that started before the circuit opened adds no information.
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
