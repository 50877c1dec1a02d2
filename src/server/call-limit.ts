import { ServiceError } from "../memory/model/errors.ts";

/** How much the server works on at once. */
export interface CallLimits {
  /** Calls under way; streams of services that need no credentials, as health, are counted apart. */
  readonly maxCalls: number;
  /** Bytes of requests that calls under way have sent, but for those streams, of which messages are small. */
  readonly maxRequestBytes: number;
  /** What one call counts at most: a client stream has as much in memory as its last messages, however long it is. */
  readonly maxBytesPerCall: number;
}

/** The place of one call. */
export interface CallSlot {
  /** @throws ServiceError OVERLOADED if all calls together have sent too much. */
  hold(bytes: number): void;
  /** To be called once the call has ended, or is refused. Idempotent. */
  leave(): void;
}

/** Refuses calls that come while the server has enough to do, so that its memory is bounded. */
export interface CallLimiter {
  /** @returns the place, or why there is none: OVERLOADED. */
  enter(kind: "work" | "open"): CallSlot | ServiceError;
}

/** Calls that were refused come back after this. */
const RETRY_AFTER_MS = 500;

export function createCallLimiter(limits: CallLimits): CallLimiter {
  const calls = { work: 0, open: 0 };
  let heldBytes = 0;

  function overloaded(what: string): ServiceError {
    return new ServiceError("OVERLOADED", `the server works on ${what} already`, {
      retryAfterMs: RETRY_AFTER_MS,
    });
  }

  return {
    enter(kind) {
      if (calls[kind] >= limits.maxCalls) return overloaded(`${limits.maxCalls} calls`);
      calls[kind] += 1;
      let own = 0;
      let inside = true;
      return {
        hold(bytes) {
          if (kind === "open" || !inside) return;
          const more = Math.min(bytes, limits.maxBytesPerCall - own);
          if (more <= 0) return;
          if (heldBytes + more > limits.maxRequestBytes) throw overloaded("as large requests as it can hold");
          own += more;
          heldBytes += more;
        },
        leave() {
          if (!inside) return;
          inside = false;
          calls[kind] -= 1;
          heldBytes -= own;
        },
      };
    },
  };
}
