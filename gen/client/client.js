import { clone, create, isMessage } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { DomainService } from "../src/memoryservice/v1/domain_service_pb.js";
import { MemoryService, StoreRequestSchema } from "../src/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "../src/memoryservice/v1/server_service_pb.js";
import { createHitStream } from "./hit-stream.js";
import { createMemoryId } from "./memory-id.js";
import { retry, retryPolicyFrom } from "./retry.js";
import { createRunningCalls } from "./running-calls.js";

/** @import { MessageInitShape } from "@bufbuild/protobuf" */
/** @import { Transport } from "@connectrpc/connect" */
/** @import { CallOptions, CommonOptions, MemoryClient } from "./index.js" */

const defaultTimeoutMs = 30_000;

/** The plan's: what fits into an agent's prompt. */
const defaultLimit = 5;

/**
 * A client on a transport; the same on every runtime.
 *
 * @param {CommonOptions} options
 * @param {{ transport: Transport, close: () => void }} connection `close` frees what the transport holds
 * @returns {MemoryClient}
 */
export function createClientOn(options, { transport, close }) {
  const timeoutMs = timeoutMsFrom(options.timeoutMs, defaultTimeoutMs);
  const policy = retryPolicyFrom(options.retry);
  const memories = createClient(MemoryService, transport);
  const calls = createRunningCalls();

  /**
   * Runs one call that has one answer.
   *
   * @template T
   * @param {CallOptions | undefined} own
   * @param {(options: { signal: AbortSignal, timeoutMs: number, headers: Readonly<Record<string, string>> }) => Promise<T>} send
   */
  async function run(own, send) {
    const running = calls.begin(own?.signal);
    const { signal } = running;
    try {
      return await retry(
        { policy, timeoutMs: timeoutMsFrom(own?.timeoutMs, timeoutMs), signal },
        (remainingMs) => send({ signal, timeoutMs: remainingMs, headers: own?.headers ?? {} }),
      );
    } finally {
      running.end();
    }
  }

  /** @type {MemoryClient} */
  const client = {
    async storeMemory(content, domain = "", source = "", importance) {
      /** @type {MessageInitShape<typeof StoreRequestSchema>} */
      const request = { content, domain, source };
      if (importance !== undefined) request.importance = importance;
      const { memory } = await client.store(request);
      return memory?.id ?? "";
    },

    async searchMemories(query, domain = "", limit = defaultLimit) {
      const { hits } = await client.search({ query, domain, limit });
      return hits;
    },

    store(request, own) {
      const message = withId(request);
      return run(own, (call) => memories.store(message, call));
    },

    search: (request, own) => run(own, (call) => memories.search(request, call)),

    streamSearch: (request, own) =>
      createHitStream({
        policy,
        timeoutMs: timeoutMsFrom(own?.timeoutMs, timeoutMs),
        signal: own?.signal,
        calls,
        open: (signal) => memories.streamSearch(request, { signal, headers: own?.headers ?? {} }),
      }),

    raw: {
      memories,
      domains: createClient(DomainService, transport),
      server: createClient(ServerService, transport),
    },

    close() {
      calls.close();
      close();
    },
  };
  return client;
}

/** @param {MessageInitShape<typeof StoreRequestSchema>} request */
function withId(request) {
  const message = isMessage(request, StoreRequestSchema)
    ? clone(StoreRequestSchema, request)
    : create(StoreRequestSchema, request);
  if (message.id === "") message.id = createMemoryId();
  return message;
}

/**
 * @param {number | undefined} given
 * @param {number} standard
 */
function timeoutMsFrom(given, standard) {
  const timeoutMs = given ?? standard;
  if (!(timeoutMs >= 0)) throw new TypeError("timeoutMs must be at least 0");
  // What is longer than a timer can be is as good as without end.
  return timeoutMs < 2 ** 31 ? timeoutMs : 0;
}
