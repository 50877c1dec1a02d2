import { Code } from "@connectrpc/connect";
import { MemoryServiceError } from "./errors.js";

/**
 * The calls of a client that have not ended, so that closing it ends them.
 *
 * One call has one signal: the caller's, the deadline's and the closing's.
 */
export function createRunningCalls() {
  /** @type {Set<AbortController>} */
  const running = new Set();
  let closed = false;

  return {
    /**
     * Begins a call; whoever does must end it.
     *
     * @param {AbortSignal | undefined} signal of the caller
     */
    begin(signal) {
      const controller = new AbortController();
      const onAbort = () => controller.abort(signal?.reason);
      if (closed) controller.abort(closedError());
      else if (signal?.aborted) onAbort();
      else signal?.addEventListener("abort", onAbort, { once: true });
      running.add(controller);
      return {
        signal: controller.signal,
        /** @param {unknown} reason */
        abort: (reason) => controller.abort(reason),
        end() {
          running.delete(controller);
          signal?.removeEventListener("abort", onAbort);
        },
      };
    },

    /** Ends all of them, and those to come. */
    close() {
      closed = true;
      for (const controller of running) controller.abort(closedError());
    },
  };
}

function closedError() {
  return new MemoryServiceError("the client is closed", { code: Code.Canceled, reason: "CANCELED" });
}
