import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { contextOptions, serverOptions, type TlsCredentials } from "../auth/tls.ts";
import { ServiceError } from "../memory/model/errors.ts";
import { connectErrorFrom } from "../rpc/interceptors/errors.ts";
import { isLoopbackHost } from "../util/loopback.ts";
import { StartupError } from "../util/startup-error.ts";
import { type Connections, createConnections, MAX_CONNECTIONS } from "./connections.ts";
import { createHttpHandler, type HttpHandlerOptions } from "./http-handler.ts";
import { createHttp2Sessions, type Http2Sessions } from "./http2-sessions.ts";
import { detectHttpVersion } from "./preface.ts";

export interface ListenerOptions extends Omit<HttpHandlerOptions, "shutdownSignal" | "accessRules"> {
  /** Address or name to listen on. */
  readonly host: string;
  /** 0 selects any free port. */
  readonly port: number;
  /** Host names, besides those of loopback, that a server on loopback accepts. */
  readonly allowedHosts: readonly string[];
  /** Origins of the web pages that may call the server. */
  readonly allowedOrigins: readonly string[];
  /** Undefined for plain text. */
  readonly tls?: TlsCredentials | undefined;
  /** Time for running calls to finish after `close`, before the server aborts them. */
  readonly shutdown: { readonly graceMs: number };
  /** For tests. */
  readonly timeouts?: Partial<ListenerTimeouts>;
}

/** Time-outs in milliseconds. Only `requestMs` ends a stream that is idle or long. */
export interface ListenerTimeouts {
  /** From the connection to the bytes that distinguish HTTP/1.1 from HTTP/2, or to the end of the TLS handshake. */
  readonly firstBytesMs: number;
  /** For the header of an HTTP/1.1 request, which otherwise gets 408. */
  readonly headersMs: number;
  /** For a complete HTTP/1.1 request, which may be a long client stream. */
  readonly requestMs: number;
  /** For idle HTTP/1.1 connections. Longer than the 60 s after which proxies close theirs. */
  readonly keepAliveMs: number;
  /** For HTTP/2 connections without a call. Clients open another one when they need it. */
  readonly idleSessionMs: number;
  /** From aborting calls to destroying their connections. */
  readonly cutMs: number;
}

export interface Listener {
  readonly host: string;
  readonly port: number;
  /** `http://host:port` or `https://host:port`, with IPv6 addresses in brackets. */
  readonly url: string;
  /** Returns the number of open connections of both versions. */
  connectionCount(): number;
  /** Uses other certificates for new connections. Only with TLS. */
  replaceTls(credentials: TlsCredentials): void;
  /**
   * Stops gracefully: accepts no more connections, lets running calls finish, aborts them as Unavailable after the grace
   * period, and finally destroys the remaining connections. Resolves when all connections are closed. Idempotent.
   */
  close(): Promise<void>;
}

const DEFAULT_TIMEOUTS: ListenerTimeouts = {
  firstBytesMs: 10_000,
  headersMs: 10_000,
  requestMs: 3_600_000,
  keepAliveMs: 65_000,
  idleSessionMs: 900_000,
  cutMs: 1_000,
};

/** Detects clients that have disappeared without closing their connection. */
const TCP_KEEP_ALIVE_MS = 60_000;

/**
 * Listens on one port for HTTP/1.1 and HTTP/2. ALPN selects the version with TLS, the HTTP/2 preface without.
 *
 * @throws StartupError if the port is taken, or the address does not belong to this machine.
 */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const timeouts = { ...DEFAULT_TIMEOUTS, ...options.timeouts };
  const shutdown = new AbortController();
  const connections = createConnections(options.logger);
  let boundToLoopback = false;
  let closing: Promise<void> | undefined;

  const handle = createHttpHandler({
    ...options,
    shutdownSignal: shutdown.signal,
    accessRules: () => ({ ...options, boundToLoopback }),
  });
  const sessions = createHttp2Sessions(handle, timeouts.idleSessionMs);
  const handleHttp1: RequestListener = (request, response) => {
    // Connect removes its listener when the response closes. In a pipeline, Node throws the error of a closed connection after
    // that.
    request.on("error", () => undefined);
    if (closing !== undefined) response.shouldKeepAlive = false;
    response.once("close", () => {
      if (closing !== undefined) setImmediate(() => http1.closeIdleConnections());
    });
    handle(request, response);
  };
  const { http1, tlsServer } = createHttp1Server(options.tls, timeouts, handleHttp1);
  http1.on("drop", () => connections.warnOfDrop({ maxConnections: MAX_CONNECTIONS }));
  acceptConnections({ http1, tlsServer, connections, sessions, firstBytesMs: timeouts.firstBytesMs });
  tlsServer?.on("tlsClientError", (error: Error) => {
    const code = "code" in error ? error.code : undefined;
    options.logger.debug({ code, reason: error.message }, "a TLS handshake failed");
  });

  await listen(http1, options.host, options.port);
  const address = http1.address();
  if (address === null || typeof address === "string") throw new StartupError("the listener has no address");
  boundToLoopback = isLoopbackHost(address.address);

  const stop = async () => {
    const closed = closeServer(http1, connections.sockets);
    connections.destroyUndecided();
    sessions.drain();
    if (await settlesWithin(closed, options.shutdown.graceMs)) return;
    shutdown.abort(
      connectErrorFrom(
        new ServiceError("SHUTTING_DOWN", "the server is shutting down", { retryAfterMs: 1_000 }),
      ),
    );
    if (await settlesWithin(closed, timeouts.cutMs)) return;
    sessions.destroy();
    for (const socket of connections.sockets) socket.destroy();
    await closed;
  };

  return {
    host: options.host,
    port: address.port,
    url: `${tlsServer === undefined ? "http" : "https"}://${options.host.includes(":") ? `[${options.host}]` : options.host}:${address.port}`,
    connectionCount: () => connections.sockets.size,
    replaceTls: (credentials) => tlsServer?.setSecureContext(contextOptions(credentials)),
    close: () => {
      closing ??= stop();
      return closing;
    },
  };
}

/** Creates the HTTP/1.1 server, which also accepts the connections of HTTP/2. `tlsServer` is the same server with TLS. */
function createHttp1Server(
  tls: TlsCredentials | undefined,
  timeouts: ListenerTimeouts,
  handle: RequestListener,
): { readonly http1: Server; readonly tlsServer: TlsServer | undefined } {
  const http1Options = {
    headersTimeout: timeouts.headersMs,
    requestTimeout: timeouts.requestMs,
    keepAliveTimeout: timeouts.keepAliveMs,
    connectionsCheckingInterval: Math.min(5_000, timeouts.headersMs),
    keepAlive: true,
    keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
  };
  const tlsServer: TlsServer | undefined =
    tls &&
    createTlsServer(
      { ...http1Options, ...serverOptions(tls), handshakeTimeout: timeouts.firstBytesMs },
      handle,
    );
  // The HTTP/1.1 server itself has to listen. A server that only receives sockets does not enforce its time-outs.
  const http1: Server = tlsServer ?? createServer(http1Options, handle);
  http1.maxConnections = MAX_CONNECTIONS;
  return { http1, tlsServer };
}

/** Hands each connection to HTTP/1.1 or HTTP/2. */
function acceptConnections(options: {
  readonly http1: Server;
  readonly tlsServer: TlsServer | undefined;
  readonly connections: Connections;
  readonly sessions: Http2Sessions;
  readonly firstBytesMs: number;
}): void {
  const { http1, tlsServer, connections, sessions } = options;
  const event = tlsServer === undefined ? "connection" : "secureConnection";
  const acceptHttp1 = takeConnectionListener(http1, event);
  http1.on("connection", (socket: Socket) => {
    if (!connections.add(socket) || tlsServer !== undefined) return;
    detectHttpVersion(socket, options.firstBytesMs, (version) => {
      connections.markServed(socket);
      if (version === "http2") {
        sessions.accept(socket);
      } else {
        acceptHttp1(socket);
        socket.resume();
      }
    });
  });
  tlsServer?.on("secureConnection", (socket: TLSSocket) => {
    connections.markServed(socket);
    if (socket.alpnProtocol === "h2") sessions.accept(socket);
    else acceptHttp1(socket);
  });
}

/** Stops accepting connections. Resolves when the last connection is closed. */
async function closeServer(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  await new Promise<void>((resolve) => server.close(() => resolve()));
  // The server reports its end slightly before the sockets do.
  for (const socket of sockets) await new Promise<void>((resolve) => socket.once("close", () => resolve()));
}

/** Removes the listener with which an HTTP server accepts connections, and returns it as a function. */
function takeConnectionListener(
  server: Server,
  event: "connection" | "secureConnection",
): (socket: Socket) => void {
  const listeners = server.listeners(event);
  server.removeAllListeners(event);
  return (socket) => {
    for (const listener of listeners) listener.call(server, socket);
  };
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject).listen({ host, port }, resolve);
  try {
    await promise;
  } catch (error) {
    throw new StartupError(`cannot listen on ${host} port ${port}: ${reasonOf(error)}`, {
      remedy: "set MEMORY_HOST and MEMORY_PORT to a free address",
      cause: error,
    });
  } finally {
    server.off("error", reject);
  }
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  switch (code) {
    case "EADDRINUSE":
      return "the port is already in use, perhaps by another server";
    case "EADDRNOTAVAIL":
      return "this machine does not have that address";
    case "EACCES":
      return "permission denied; ports below 1024 need a privilege";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return "that name does not resolve to an address";
    default:
      return code || String(error);
  }
}

async function settlesWithin(promise: Promise<void>, timeoutMs: number): Promise<boolean> {
  const { promise: timeout, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(() => resolve(false), timeoutMs);
  try {
    return await Promise.race([promise.then(() => true), timeout]);
  } finally {
    clearTimeout(timer);
  }
}
