import { ServiceError } from "../memory/model/errors.ts";

/** How much work the server accepts concurrently. */
export interface CallLimits {
  /** Maximum number of running calls. Streams of public services, such as health, are counted separately. */
  readonly maxCalls: number;
  /** Maximum size of the requests of running calls, except for streams of public services, whose messages are small. */
  readonly maxRequestBytes: number;
  /** Maximum size that one call counts. A client stream of any length only keeps its last messages in memory. */
  readonly maxBytesPerCall: number;
}

/** The slot of one call. */
export interface CallSlot {
  /** Counts bytes of the request. @throws ServiceError OVERLOADED if all calls together have sent too many. */
  hold(bytes: number): void;
  /** Releases the slot when the call has ended or is refused. Idempotent. */
  leave(): void;
}

/** Refuses calls beyond the limits, so that the memory of the server is bounded. */
export interface CallLimiter {
  /** Returns a slot, or the error OVERLOADED. */
  enter(kind: "work" | "public"): CallSlot | ServiceError;
}

/** Suggested pause before a retry. */
const RETRY_AFTER_MS = 500;

export function createCallLimiter(limits: CallLimits): CallLimiter {
  const calls = { work: 0, public: 0 };
  let heldBytes = 0;

  function overloaded(what: string): ServiceError {
    return new ServiceError("OVERLOADED", `the server is already processing ${what}`, {
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
          if (kind === "public" || !inside) return;
          const more = Math.min(bytes, limits.maxBytesPerCall - own);
          if (more <= 0) return;
          if (heldBytes + more > limits.maxRequestBytes) throw overloaded("the maximum size of requests");
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
