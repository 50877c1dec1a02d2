import { createClosedError } from "./errors.ts";

/** Running calls of a client, so that closing the client cancels them. */
export interface RunningCalls {
  /**
   * Registers a call. The caller must call `end` on the result.
   *
   * @param signal The signal that the user of the client passed.
   */
  begin(signal: AbortSignal | undefined): RunningCall;

  /** Cancels all running calls and every later one. */
  close(): void;
}

/** One call that is running. */
export interface RunningCall {
  /** Aborts when the user's signal aborts, when the client closes, or through `abort`. */
  readonly signal: AbortSignal;
  abort(reason: unknown): void;
  end(): void;
}

/** Creates an empty register of calls. */
export function createRunningCalls(): RunningCalls {
  const running = new Set<AbortController>();
  let closed = false;

  return {
    begin(signal) {
      const controller = new AbortController();
      const onAbort = () => controller.abort(signal?.reason);
      if (closed) controller.abort(createClosedError());
      else if (signal?.aborted) onAbort();
      else signal?.addEventListener("abort", onAbort, { once: true });
      running.add(controller);
      return {
        signal: controller.signal,
        abort: (reason) => controller.abort(reason),
        end() {
          running.delete(controller);
          signal?.removeEventListener("abort", onAbort);
        },
      };
    },

    close() {
      closed = true;
      for (const controller of running) controller.abort(createClosedError());
    },
  };
}
