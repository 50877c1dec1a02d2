// The public face of the package. node.js and web.js implement it; `tsc -p gen` checks that they do.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client, Code, Interceptor, Transport } from "@connectrpc/connect";
import type { DomainService } from "../src/memoryservice/v1/domain_service_pb.js";
import type { ErrorReason } from "../src/memoryservice/v1/error_reason_pb.js";
import type {
  MemoryService,
  SearchHit,
  SearchInfo,
  SearchRequestSchema,
  SearchResponse,
  StoreRequestSchema,
  StoreResponse,
  StreamSearchRequestSchema,
  StreamSearchResponse_Summary,
} from "../src/memoryservice/v1/memory_service_pb.js";
import type { ServerService } from "../src/memoryservice/v1/server_service_pb.js";

export { Code } from "@connectrpc/connect";

/**
 * Makes a client. Nothing is sent, and no connection opened, before its first call.
 *
 * @throws TypeError if an option is missing or wrong, or if `protocol` is not to be had in this runtime.
 */
export declare function createMemoryClient(options: MemoryClientOptions): MemoryClient;

/**
 * Makes an id for a memory as the server makes them: `mem_` and a UUIDv7, so that later ids sort later.
 */
export declare function createMemoryId(): string;

/**
 * Makes of whatever a call of `raw` has thrown the error that the other methods throw.
 */
export declare function memoryServiceErrorFrom(error: unknown): MemoryServiceError;

/** Where the service is, and how to speak with it. */
export type MemoryClientOptions = CommonOptions & (AddressOptions | TransportOptions);

/** What every client may have. */
export interface CommonOptions {
  /**
   * How long a call may take with all its tries and the waits between them, in milliseconds; for streamSearch:
   * how long to wait for its next message. 0: without end. Default: 30,000.
   */
  readonly timeoutMs?: number | undefined;

  /** When and how often to repeat what failed. */
  readonly retry?: RetryOptions | undefined;
}

/** A service by its address. */
export interface AddressOptions {
  /** As `http://127.0.0.1:50051`, or `https://memories.example/behind/a/prefix`. */
  readonly baseUrl: string;

  /** Sent with every call as `authorization: Bearer <apiKey>`. Default: no credentials. */
  readonly apiKey?: string | undefined;

  /**
   * What to speak. `grpc` needs HTTP/2 all the way and is for Node only; `connect` and `grpc-web` pass
   * HTTP/1.1 proxies, too. Default: `grpc` on Node, `connect` elsewhere.
   */
  readonly protocol?: Protocol | undefined;

  /** Put around every try of every call, the first one outermost: tracing, logging, headers. */
  readonly interceptors?: readonly Interceptor[] | undefined;

  readonly transport?: undefined;
}

/** A service by a transport of connect, for what AddressOptions cannot say: client certificates, a fake in tests. */
export interface TransportOptions {
  /** Used as it is, and left open by `close`. */
  readonly transport: Transport;

  readonly baseUrl?: undefined;
  readonly apiKey?: undefined;
  readonly protocol?: undefined;
  readonly interceptors?: undefined;
}

/** What to speak with the service. */
export type Protocol = "grpc" | "connect" | "grpc-web";

/**
 * When and how often to repeat what failed. Repeated is what says that it may help: Unavailable and lost
 * connections, ResourceExhausted with a RetryInfo, Aborted for a CONFLICT. Each wait is a random part of one that
 * doubles from try to try, after whatever the server asks for, and never reaches beyond the deadline.
 */
export interface RetryOptions {
  /** How often to try in all; 1: never repeat. Default: 5. */
  readonly maxTries?: number | undefined;

  /** The longest wait before the second try, in milliseconds. Default: 250. */
  readonly firstDelayMs?: number | undefined;

  /** The longest wait before any try, in milliseconds. Default: 5,000. */
  readonly maxDelayMs?: number | undefined;
}

/** What one call may have of its own. */
export interface CallOptions {
  /** In place of the client's `timeoutMs`. */
  readonly timeoutMs?: number | undefined;

  /** Ends the call: it fails as Canceled, with the signal's reason as its cause. */
  readonly signal?: AbortSignal | undefined;

  /** More headers, as `x-request-id`. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/**
 * Stores and finds memories.
 *
 * Every method but those of `raw` fails with a MemoryServiceError only, keeps a deadline, and repeats what may be
 * repeated (see RetryOptions). An empty or missing domain is the server's default one.
 */
export interface MemoryClient {
  /**
   * Stores one memory in a few words.
   *
   * @param importance from 0 to 1.
   * @returns its id.
   */
  storeMemory(content: string, domain?: string, source?: string, importance?: number): Promise<string>;

  /**
   * Finds the memories that fit a query best, best first.
   *
   * @param limit how many at most, from 1 to 1,000. Default: 5.
   */
  searchMemories(query: string, domain?: string, limit?: number): Promise<SearchHit[]>;

  /**
   * Stores one memory. Without an id it gets one here, not on the server, so that repeating the call cannot store
   * it twice.
   */
  store(request: MessageInitShape<typeof StoreRequestSchema>, options?: CallOptions): Promise<StoreResponse>;

  /** Finds the memories that fit a query best, and tells how. */
  search(
    request: MessageInitShape<typeof SearchRequestSchema>,
    options?: CallOptions,
  ): Promise<SearchResponse>;

  /**
   * Finds up to 10,000 memories and hands them out one by one, best first. The call begins with the iteration,
   * and ends with it, however early. It is repeated only before its first message.
   */
  streamSearch(request: MessageInitShape<typeof StreamSearchRequestSchema>, options?: CallOptions): HitStream;

  /**
   * The generated clients, for all else: with credentials and interceptors, but with connect's own errors (see
   * memoryServiceErrorFrom), without deadline and without repeating.
   */
  readonly raw: {
    readonly memories: Client<typeof MemoryService>;
    readonly domains: Client<typeof DomainService>;
    readonly server: Client<typeof ServerService>;
  };

  /**
   * Ends running calls of this client (but those of `raw` over fetch) as Canceled and closes its connections.
   * Later calls fail. A Node process ends without it, too, once no call is running.
   */
  close(): void;
}

/** Hits as they arrive. To be iterated once: what was taken out is gone. */
export interface HitStream extends AsyncIterable<SearchHit> {
  /** How the hits were found. There from the first hit on, or from the end of the iteration if there is none. */
  readonly info: SearchInfo | undefined;

  /** How many hits were sent. There from the end of the iteration on. */
  readonly summary: StreamSearchResponse_Summary | undefined;
}

/** Why a call failed: the names of `memoryservice.v1.ErrorReason`, whose comments say what to do. */
export type ErrorReasonName = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/** A field of a request that breaks its rule. */
export interface FieldViolation {
  /** Its path in the request, in the contract's names: `items[3].content`. */
  readonly field: string;

  /** What is wrong and what is allowed. */
  readonly description: string;
}

/** What a MemoryServiceError is made of. */
export interface MemoryServiceErrorOptions {
  readonly code: Code;
  readonly reason?: ErrorReasonName | undefined;
  readonly violations?: readonly FieldViolation[] | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly requestId?: string | undefined;
  readonly cause?: unknown;
}

/** A call that failed. */
export declare class MemoryServiceError extends Error {
  constructor(message: string, options: MemoryServiceErrorOptions);

  override readonly name: "MemoryServiceError";

  /** The status code. Unavailable also for connections that could not be made, or were lost. */
  readonly code: Code;

  /**
   * Why: what to branch on. Undefined if the call has not reached the service, or for a reason that is newer than
   * this package.
   */
  readonly reason: ErrorReasonName | undefined;

  /** The fields at fault, if the request was. */
  readonly violations: readonly FieldViolation[];

  /** Facts about this error, with the keys that the comment of the reason names. */
  readonly metadata: Readonly<Record<string, string>>;

  /** How long to wait before repeating the call, in milliseconds, if the server says that it may help. */
  readonly retryAfterMs: number | undefined;

  /** Under which id the server's log knows the call. Undefined if no server has answered. */
  readonly requestId: string | undefined;
}
