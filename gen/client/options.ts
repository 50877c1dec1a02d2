import type { Interceptor, Transport } from "@connectrpc/connect";
import type { RetryOptions } from "./retry.ts";

/** Options of createMemoryClient: the server's address or a transport, and the limits of every call. */
export type MemoryClientOptions = CommonOptions & (AddressOptions | TransportOptions);

/** Options that apply to every client. */
export interface CommonOptions {
  /**
   * Deadline of a call in milliseconds, including all retries and the delays between them. For streamSearch it limits
   * the wait for each message instead. 0 disables it. Defaults to 30,000.
   */
  readonly timeoutMs?: number | undefined;

  /** When and how often the client retries a failed call. */
  readonly retry?: RetryOptions | undefined;
}

/** Options of a client that connects to a server by its address. */
export interface AddressOptions {
  /** Base URL of the server, for example `http://127.0.0.1:50051` or `https://memories.example/some/prefix`. */
  readonly baseUrl: string;

  /** API key or token, sent with every call as `authorization: Bearer <apiKey>`. Defaults to no credentials. */
  readonly apiKey?: string | undefined;

  /**
   * Protocol to use. `grpc` needs HTTP/2 all the way and runs only on Node; `connect` and `grpc-web` also pass HTTP/1.1
   * proxies. Defaults to `grpc` on Node and to `connect` elsewhere.
   */
  readonly protocol?: Protocol | undefined;

  /** Interceptors around every attempt of every call, the first one outermost: for tracing, logging or headers. */
  readonly interceptors?: readonly Interceptor[] | undefined;

  readonly transport?: undefined;
}

/**
 * Options of a client on a Connect transport that you create. Use it for settings that AddressOptions does not have,
 * such as client certificates, or for a fake server in tests.
 */
export interface TransportOptions {
  /** Transport to send calls through. The client does not change it, and `close` does not close it. */
  readonly transport: Transport;

  readonly baseUrl?: undefined;
  readonly apiKey?: undefined;
  readonly protocol?: undefined;
  readonly interceptors?: undefined;
}

/** Protocols that the server speaks. */
export type Protocol = "grpc" | "connect" | "grpc-web";

/** Options of a single call. */
export interface CallOptions {
  /** Replaces the client's `timeoutMs` for this call. */
  readonly timeoutMs?: number | undefined;

  /** Cancels the call when aborted. The call then fails with code Canceled, and the signal's reason is the cause. */
  readonly signal?: AbortSignal | undefined;

  /** Additional request headers, for example `x-request-id`. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}
