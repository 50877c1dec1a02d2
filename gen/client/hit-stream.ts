import type {
  SearchHit,
  SearchInfo,
  StreamSearchResponse,
  StreamSearchResponse_Summary,
} from "../src/memoryservice/v1/memory_service_pb.js";
import { memoryServiceErrorFrom } from "./convert-error.ts";
import { canceledErrorFrom, createDeadlineError, createIncompleteStreamError } from "./errors.ts";
import { type RetryPolicy, retry } from "./retry.ts";
import type { RunningCalls } from "./running-calls.ts";

/** Hits in the order in which they arrive. You can iterate over them once. */
export interface HitStream extends AsyncIterable<SearchHit> {
  /** How the server searched. Available from the first hit, or from the end of the iteration if there are no hits. */
  readonly info: SearchInfo | undefined;

  /** How many hits the server sent. Available at the end of the iteration. */
  readonly summary: StreamSearchResponse_Summary | undefined;
}

/** Options of createHitStream. */
export interface HitStreamOptions {
  readonly policy: RetryPolicy;

  /** Longest wait for the next message, in milliseconds. 0 means no limit. */
  readonly timeoutMs: number;

  /** The signal that the user of the client passed. */
  readonly signal: AbortSignal | undefined;

  readonly calls: RunningCalls;

  /** Starts the call. */
  readonly open: (signal: AbortSignal) => AsyncIterable<StreamSearchResponse>;
}

/** Creates a stream that starts its call when it is iterated. */
export function createHitStream({ policy, timeoutMs, signal, calls, open }: HitStreamOptions): HitStream {
  let info: SearchInfo | undefined;
  let summary: StreamSearchResponse_Summary | undefined;

  async function* hits(): AsyncGenerator<SearchHit, void, undefined> {
    const call = calls.begin(signal);
    // Limits the wait for each message, not the whole call: a slow reader is fine, a silent server is not.
    const inTime = async <T>(message: Promise<T>): Promise<T> => {
      const timer =
        timeoutMs > 0 ? setTimeout(() => call.abort(createDeadlineError(timeoutMs)), timeoutMs) : undefined;
      try {
        return await message;
      } finally {
        clearTimeout(timer);
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
      if (summary === undefined) throw createIncompleteStreamError();
    } catch (caught) {
      if (call.signal.aborted) throw canceledErrorFrom(call.signal.reason);
      throw memoryServiceErrorFrom(caught);
    } finally {
      // A reader cannot end Connect's iterators, so leaving the loop early has to cancel the call.
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
