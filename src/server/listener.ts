import { createServer, type RequestListener, type Server } from "node:http";
import {
  createServer as createHttp2Server,
  constants as http2Constants,
  type ServerHttp2Session,
} from "node:http2";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { contextOptions, serverOptions, type TlsCredentials } from "../auth/tls.ts";
import { ServiceError } from "../memory/model/errors.ts";
import { connectErrorFrom } from "../rpc/interceptors/errors.ts";
import { isLoopbackHost } from "../util/loopback.ts";
import { StartupError } from "../util/startup-error.ts";
import { createHttpHandler, type HttpHandlerOptions } from "./http-handler.ts";
import { detectHttpVersion } from "./preface.ts";

export interface ListenerOptions extends Omit<HttpHandlerOptions, "shutdownSignal" | "accessRules"> {
  /** Address or name to listen on. */
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Names, beside those of loopback, under which a server on loopback may be asked. */
  readonly allowedHosts: readonly string[];
  /** Origins of web pages that may call. */
  readonly allowedOrigins: readonly string[];
  /** Undefined: plain text. */
  readonly tls?: TlsCredentials | undefined;
  /** How long running calls may go on after `close`, before they are told to end. */
  readonly shutdown: { readonly graceMs: number };
  /** For tests; the defaults are meant for operation. */
  readonly timeouts?: Partial<ListenerTimeouts>;
}

/** All in milliseconds. None of them but `requestMs` ends a stream that is merely quiet or long. */
export interface ListenerTimeouts {
  /** From connecting to the bytes that tell HTTP/1.1 from HTTP/2, or to the end of the TLS handshake. */
  readonly firstBytesMs: number;
  /** For the head of an HTTP/1.1 request; then 408. */
  readonly headersMs: number;
  /** For a whole HTTP/1.1 request, of which a client stream may be a long one. */
  readonly requestMs: number;
  /** Idle HTTP/1.1 connections; longer than the 60 s after which proxies close theirs. */
  readonly keepAliveMs: number;
  /** HTTP/2 connections without a call; their clients make another when they need one. */
  readonly idleSessionMs: number;
  /** Between telling calls to end and destroying their connections. */
  readonly cutMs: number;
}

export interface Listener {
  readonly host: string;
  readonly port: number;
  /** `http://host:port` or `https://host:port`, with IPv6 addresses in brackets. */
  readonly url: string;
  /** Connections now open, of either version. */
  connectionCount(): number;
  /** Shows other certificates from the next connection on; those that are open go on. Only with TLS. */
  replaceTls(credentials: TlsCredentials): void;
  /**
   * Stops gracefully: accepts nothing more, lets running calls finish, after the grace period aborts them as
   * Unavailable, at last destroys what is left. Resolves when every connection is gone. Idempotent.
   */
  close(): Promise<void>;
}

const defaultTimeouts: ListenerTimeouts = {
  firstBytesMs: 10_000,
  headersMs: 10_000,
  requestMs: 3_600_000,
  keepAliveMs: 65_000,
  idleSessionMs: 900_000,
  cutMs: 1_000,
};

/** Generous for a service, and within the usual limit of 1,024 open files less what the database needs. */
const maxConnections = 900;

/** Nobody has all connections to himself. A proxy in front has one address, and is well served by so many. */
const maxConnectionsPerAddress = maxConnections / 2;

/** A flood of connections must not become a flood of lines. */
const dropWarningIntervalMs = 60_000;

/** More streams wait at the client; it bounds what one connection can have in memory. */
const maxStreamsPerConnection = 250;

/** HTTP/2's 64 KiB would need a round trip for each of them in a message of megabytes. */
const streamWindowBytes = 1024 * 1024;

/** Megabytes that one HTTP/2 session may hold, beyond which Node refuses streams; its default of 10 is two large answers. */
const maxSessionMegabytes = 128;

/** Finds clients that vanished without a word. */
const tcpKeepAliveMs = 60_000;

/**
 * Listens on one port for HTTP/1.1 and HTTP/2, telling them apart by what TLS has agreed on (ALPN), in plain text by the
 * HTTP/2 preface.
 *
 * @throws StartupError if the port is taken, or the address is not one of this machine.
 */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const timeouts = { ...defaultTimeouts, ...options.timeouts };
  const shutdown = new AbortController();
  const sockets = new Set<Socket>();
  const sessions = new Set<ServerHttp2Session>();
  let boundToLoopback = false;
  let closing: Promise<void> | undefined;

  const handle = createHttpHandler({
    ...options,
    shutdownSignal: shutdown.signal,
    accessRules: () => ({ ...options, boundToLoopback }),
  });

  const http1Options = {
    headersTimeout: timeouts.headersMs,
    requestTimeout: timeouts.requestMs,
    keepAliveTimeout: timeouts.keepAliveMs,
    connectionsCheckingInterval: Math.min(5_000, timeouts.headersMs),
    keepAlive: true,
    keepAliveInitialDelay: tcpKeepAliveMs,
  };
  const handleHttp1: RequestListener = (request, response) => {
    // Connect stops listening when the response closes. In a pipeline that is after Node has looked whether anybody does, and
    // before it throws the error of a connection that has closed.
    request.on("error", () => undefined);
    if (closing !== undefined) response.shouldKeepAlive = false;
    response.once("close", () => {
      if (closing !== undefined) setImmediate(() => http1.closeIdleConnections());
    });
    handle(request, response);
  };
  const tlsServer: TlsServer | undefined =
    options.tls &&
    createTlsServer(
      { ...http1Options, ...serverOptions(options.tls), handshakeTimeout: timeouts.firstBytesMs },
      handleHttp1,
    );
  // The HTTP/1.1 server itself has to listen: one that is only fed sockets never enforces its time-outs.
  const http1: Server = tlsServer ?? createServer(http1Options, handleHttp1);
  http1.maxConnections = maxConnections;
  let dropWarnedAt = Number.NEGATIVE_INFINITY;
  const warnOfDrop = (fields: object) => {
    if (performance.now() - dropWarnedAt < dropWarningIntervalMs) return;
    dropWarnedAt = performance.now();
    options.logger.warn(fields, "too many connections, new ones are dropped");
  };
  http1.on("drop", () => warnOfDrop({ maxConnections }));
  const acceptHttp1 = takeConnectionListener(
    http1,
    tlsServer === undefined ? "connection" : "secureConnection",
  );

  const http2 = createHttp2Server(
    {
      maxSessionMemory: maxSessionMegabytes,
      settings: { maxConcurrentStreams: maxStreamsPerConnection, initialWindowSize: streamWindowBytes },
    },
    handle,
  );
  // Without this listener Node writes it, also where the client has reset the stream by then: that throws, outside of any
  // handler, and would end the process.
  http2.on("checkContinue", (request, response) => {
    if (!response.stream.destroyed && !response.stream.closed) response.writeContinue();
    handle(request, response);
  });
  http2.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    session.setLocalWindowSize(4 * streamWindowBytes);
    closeWhenIdle(session, timeouts.idleSessionMs, () => drain(session));
  });

  /** By their addresses: the socket that TLS makes of one does not tell which that is. */
  const undecided = new Map<string, Socket>();
  /** How many, by the address of the other side. */
  const connections = new Map<string, number>();
  const acceptHttp2 = (socket: Socket) => {
    // HTTP/1.1 servers let clients half-close. A session on such a socket outlives its client for ever.
    socket.allowHalfOpen = false;
    http2.emit("connection", socket);
  };
  http1.on("connection", (socket: Socket) => {
    const key = addressesOf(socket);
    const { remoteAddress: address = "" } = socket;
    const ofAddress = (connections.get(address) ?? 0) + 1;
    if (ofAddress > maxConnectionsPerAddress) {
      warnOfDrop({ address, maxConnectionsPerAddress });
      socket.destroy();
      return;
    }
    connections.set(address, ofAddress);
    sockets.add(socket);
    undecided.set(key, socket);
    socket.once("close", () => {
      sockets.delete(socket);
      const left = (connections.get(address) ?? 0) - 1;
      if (left > 0) connections.set(address, left);
      else connections.delete(address);
      if (undecided.get(key) === socket) undecided.delete(key);
    });
    if (tlsServer !== undefined) return;
    detectHttpVersion(socket, timeouts.firstBytesMs, (version) => {
      undecided.delete(key);
      if (version === "http2") {
        acceptHttp2(socket);
      } else {
        acceptHttp1(socket);
        socket.resume();
      }
    });
  });
  tlsServer?.on("secureConnection", (socket: TLSSocket) => {
    undecided.delete(addressesOf(socket));
    if (socket.alpnProtocol === "h2") acceptHttp2(socket);
    else acceptHttp1(socket);
  });
  tlsServer?.on("tlsClientError", (error: Error) => {
    const code = "code" in error ? error.code : undefined;
    options.logger.debug({ code, reason: error.message }, "a TLS handshake failed");
  });

  await listen(http1, options.host, options.port);
  const address = http1.address();
  if (address === null || typeof address === "string") throw new StartupError("the listener has no address");
  boundToLoopback = isLoopbackHost(address.address);

  const stop = async () => {
    const closed = closeServer(http1, sockets);
    for (const socket of undecided.values()) socket.destroy();
    for (const session of sessions) drain(session);
    if (await settlesWithin(closed, options.shutdown.graceMs)) return;
    shutdown.abort(
      connectErrorFrom(
        new ServiceError("SHUTTING_DOWN", "the server is shutting down", { retryAfterMs: 1_000 }),
      ),
    );
    if (await settlesWithin(closed, timeouts.cutMs)) return;
    for (const session of sessions) session.destroy();
    for (const socket of sockets) socket.destroy();
    await closed;
  };

  return {
    host: options.host,
    port: address.port,
    url: `${tlsServer === undefined ? "http" : "https"}://${options.host.includes(":") ? `[${options.host}]` : options.host}:${address.port}`,
    connectionCount: () => sockets.size,
    replaceTls: (credentials) => tlsServer?.setSecureContext(contextOptions(credentials)),
    close: () => {
      closing ??= stop();
      return closing;
    },
  };
}

/** The highest there is: what the client has sent until it hears of the end is still accepted. */
const anyStreamId = 2 ** 31 - 1;

/** Node's own client may not answer a ping any more once it has heard of the end, without a stream that is open. */
const drainMs = 250;

/**
 * Ends a session without refusing a stream: Node's `close` alone refuses those that are already on their way. First the
 * client is told to open no more, then, once it has answered a ping and so has heard that, the session closes.
 */
function drain(session: ServerHttp2Session): void {
  if (session.closed || session.destroyed) return;
  const close = () => {
    clearTimeout(timer);
    if (!session.closed) session.close();
  };
  const timer = setTimeout(close, drainMs);
  session.once("close", close);
  session.goaway(http2Constants.NGHTTP2_NO_ERROR, anyStreamId);
  session.ping(close);
}

/** Calls `close` once the session has had no stream for so long. */
function closeWhenIdle(session: ServerHttp2Session, idleMs: number, close: () => void): void {
  let streams = 0;
  let timer = setTimeout(close, idleMs);
  session.on("stream", (stream) => {
    streams += 1;
    clearTimeout(timer);
    stream.once("close", () => {
      streams -= 1;
      if (streams === 0 && !session.closed) timer = setTimeout(close, idleMs);
    });
  });
  session.once("close", () => clearTimeout(timer));
}

/** Stops accepting; resolves when the last connection has ended. */
async function closeServer(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  await new Promise<void>((resolve) => server.close(() => resolve()));
  // The server counts a socket as gone a little before the socket says so.
  for (const socket of sockets) await new Promise<void>((resolve) => socket.once("close", () => resolve()));
}

/** Which connection of this port a socket is. */
function addressesOf({ localAddress, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${remoteAddress} ${remotePort}`;
}

/** Removes the listener by which an HTTP server takes its connections, and returns it as a function. */
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
    throw new StartupError(`cannot listen on ${host} port ${port}: ${whyNot(error)}`, {
      remedy: "set MEMORY_HOST and MEMORY_PORT to what is free",
      cause: error,
    });
  } finally {
    server.off("error", reject);
  }
}

function whyNot(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  switch (code) {
    case "EADDRINUSE":
      return "the port is already in use, perhaps by another server";
    case "EADDRNOTAVAIL":
      return "this machine does not have that address";
    case "EACCES":
      return "no permission, ports below 1024 need a privilege";
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
