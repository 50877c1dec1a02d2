import { clone, create, isMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { DomainService } from "../src/memoryservice/v1/domain_service_pb.js";
import {
  MemoryService,
  type StoreRequest,
  StoreRequestSchema,
} from "../src/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "../src/memoryservice/v1/server_service_pb.js";
import { createHitStream } from "./hit-stream.ts";
import type { MemoryClient } from "./memory-client.ts";
import { createMemoryId } from "./memory-id.ts";
import type { CallOptions, CommonOptions } from "./options.ts";
import { retry, retryPolicyFrom } from "./retry.ts";
import { createRunningCalls } from "./running-calls.ts";

/** A transport and a function that closes its connections. */
export interface Connection {
  readonly transport: Transport;
  close(): void;
}

/** Options that an attempt passes to the generated client. */
interface AttemptOptions {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  readonly headers: Readonly<Record<string, string>>;
}

const defaultTimeoutMs = 30_000;

/** As many hits as fit into the prompt of an agent. */
const defaultLimit = 5;

/** Creates a client on a connection. It is the same in every runtime. */
export function createClientOn(connection: Connection, options: CommonOptions): MemoryClient {
  const timeoutMs = timeoutMsFrom(options.timeoutMs, defaultTimeoutMs);
  const policy = retryPolicyFrom(options.retry);
  const memories = createClient(MemoryService, connection.transport);
  const calls = createRunningCalls();

  /** Runs a call that returns one message, with its deadline and its retries. */
  async function run<T>(
    callOptions: CallOptions | undefined,
    send: (options: AttemptOptions) => Promise<T>,
  ): Promise<T> {
    const call = calls.begin(callOptions?.signal);
    const { signal } = call;
    try {
      return await retry(
        { policy, timeoutMs: timeoutMsFrom(callOptions?.timeoutMs, timeoutMs), signal },
        (remainingMs) => send({ signal, timeoutMs: remainingMs, headers: callOptions?.headers ?? {} }),
      );
    } finally {
      call.end();
    }
  }

  const client: MemoryClient = {
    async storeMemory(content, domain = "", source = "", importance) {
      const request: MessageInitShape<typeof StoreRequestSchema> = { content, domain, source };
      if (importance !== undefined) request.importance = importance;
      const { memory } = await client.store(request);
      return memory?.id ?? "";
    },

    async searchMemories(query, domain = "", limit = defaultLimit) {
      const { hits } = await client.search({ query, domain, limit });
      return hits;
    },

    store(request, callOptions) {
      const message = withId(request);
      return run(callOptions, (attempt) => memories.store(message, attempt));
    },

    search: (request, callOptions) => run(callOptions, (attempt) => memories.search(request, attempt)),

    streamSearch: (request, callOptions) =>
      createHitStream({
        policy,
        timeoutMs: timeoutMsFrom(callOptions?.timeoutMs, timeoutMs),
        signal: callOptions?.signal,
        calls,
        open: (signal) => memories.streamSearch(request, { signal, headers: callOptions?.headers ?? {} }),
      }),

    raw: {
      memories,
      domains: createClient(DomainService, connection.transport),
      server: createClient(ServerService, connection.transport),
    },

    close() {
      calls.close();
      connection.close();
    },
  };
  return client;
}

/** Copies a request, with a new id if it has none. */
function withId(request: MessageInitShape<typeof StoreRequestSchema>): StoreRequest {
  const message = isMessage(request, StoreRequestSchema)
    ? clone(StoreRequestSchema, request)
    : create(StoreRequestSchema, request);
  if (message.id === "") message.id = createMemoryId();
  return message;
}

function timeoutMsFrom(value: number | undefined, defaultMs: number): number {
  const timeoutMs = value ?? defaultMs;
  if (!(timeoutMs >= 0)) throw new TypeError(`timeoutMs must be at least 0, got ${timeoutMs}`);
  // Timers run for at most 2^31 - 1 ms (24.8 days), so a longer timeout means no deadline.
  return timeoutMs < 2 ** 31 ? timeoutMs : 0;
}
