import { Code } from "@connectrpc/connect";
import { canceledErrorFrom, deadlineError, MemoryServiceError, memoryServiceErrorFrom } from "./errors.js";
import { retry } from "./retry.js";

/** @import { HitStream } from "./index.js" */
/** @import { RetryPolicy } from "./retry.js" */
/** @import { createRunningCalls } from "./running-calls.js" */
/** @import { SearchHit, StreamSearchResponse } from "../src/memoryservice/v1/memory_service_pb.js" */

/**
 * @param {object} options
 * @param {RetryPolicy} options.policy
 * @param {number} options.timeoutMs the longest wait for the next message; 0: without end
 * @param {AbortSignal | undefined} options.signal of the caller
 * @param {ReturnType<typeof createRunningCalls>} options.calls
 * @param {(signal: AbortSignal) => AsyncIterable<StreamSearchResponse>} options.open
 * @returns {HitStream}
 */
export function createHitStream({ policy, timeoutMs, signal, calls, open }) {
  /** @type {HitStream["info"]} */
  let info;
  /** @type {HitStream["summary"]} */
  let summary;

  /** @returns {AsyncGenerator<SearchHit, void, undefined>} */
  async function* hits() {
    const call = calls.begin(signal);
    // Not a deadline of the whole call: a reader who takes time is not late, a server that says nothing is.
    /**
     * @template T
     * @param {Promise<T>} message
     */
    const inTime = async (message) => {
      const timer = timeoutMs > 0 && setTimeout(() => call.abort(deadlineError(timeoutMs)), timeoutMs);
      try {
        return await message;
      } finally {
        if (timer) clearTimeout(timer);
      }
    };

    try {
      let { messages, next } = await inTime(
        retry({ policy, timeoutMs, signal: call.signal }, async () => {
          const messages = open(call.signal)[Symbol.asyncIterator]();
          return { messages, next: await messages.next() };
        }),
      );
      for (; !next.done; next = await inTime(messages.next())) {
        const { item } = next.value;
        if (item.case === "hit") yield item.value;
        else if (item.case === "info") info = item.value;
        else if (item.case === "summary") summary = item.value;
      }
      if (summary === undefined) throw incompleteError();
    } catch (caught) {
      if (call.signal.aborted) throw canceledErrorFrom(call.signal.reason);
      throw memoryServiceErrorFrom(caught);
    } finally {
      // Connect's iterators cannot be ended by their reader: a loop left early has to end the call.
      call.abort(undefined);
      call.end();
    }
  }

  const iterator = hits();
  return {
    get info() {
      return info;
    },
    get summary() {
      return summary;
    },
    [Symbol.asyncIterator]: () => iterator,
  };
}

function incompleteError() {
  return new MemoryServiceError("the stream ended before its summary", { code: Code.Unavailable });
}
