import { EventEmitter, on } from "node:events";
import http from "node:http";
import { connect as connectSocket, type Socket } from "node:net";
import type { ConnectRouter, Interceptor, Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { expect, onTestFinished } from "vitest";
import { LIMITS } from "../../src/memory/model/limits.ts";
import { createErrorInterceptor } from "../../src/rpc/interceptors/errors.ts";
import { type Listener, type ListenerOptions, startListener } from "../../src/server/listener.ts";
import type { Logger } from "../../src/util/logger.ts";

/** One line that a logger received. */
export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface LogRecorder {
  readonly logger: Logger;
  readonly lines: LogLine[];
  /** Returns the first matching line; waits for it if it has not been written yet. */
  find(fits: (line: LogLine) => boolean): Promise<LogLine>;
}

export function createLogRecorder(): LogRecorder {
  const lines: LogLine[] = [];
  const written = new EventEmitter();
  const write = (level: LogLine["level"]) => (fields: unknown, message?: string) => {
    lines.push({ level, message: message ?? "", fields: { ...(fields as object) } });
    written.emit("line");
  };
  return {
    logger: { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") },
    lines,
    async find(fits) {
      const found = () => lines.find(fits);
      for (let line = found(); ; line = found()) {
        if (line !== undefined) return line;
        for await (const _ of on(written, "line", { signal: AbortSignal.timeout(5_000) })) break;
      }
    },
  };
}

export type TestListener = Listener & LogRecorder;

/** Runs after the test, last registered first. */
export function cleanUp(work: () => Promise<void> | void): void {
  // Not from a hook of this module: where files share a process, only the first that imports it would have that.
  onTestFinished(work);
}

/** Starts a listener on a free port; the test fails if a connection is still open when its clients are gone. */
export async function startTestListener(
  routes: (router: ConnectRouter) => void,
  options: Partial<ListenerOptions> = {},
): Promise<TestListener> {
  const log = createLogRecorder();
  const listener = await startListener({
    host: "127.0.0.1",
    port: 0,
    routes,
    interceptors: [createErrorInterceptor(log)],
    maxMessageBytes: LIMITS.messageBytes,
    allowedHosts: [],
    allowedOrigins: [],
    readiness: async () => ({ ready: true, checks: {} }),
    shutdown: { graceMs: 5_000 },
    logger: log.logger,
    ...options,
  });
  cleanUp(async () => {
    await expect.poll(() => listener.connectionCount(), { message: "open connections" }).toBe(0);
    await listener.close();
  });
  return { ...listener, ...log };
}

/** The ways into the server that a connect client knows. */
export const transports: Readonly<Record<string, (url: string) => Transport>> = {
  "Connect over HTTP/1.1": (baseUrl) =>
    createConnectTransport({ baseUrl, httpVersion: "1.1", nodeOptions: { agent: createAgent() } }),
  "Connect with JSON over HTTP/1.1": (baseUrl) =>
    createConnectTransport({
      baseUrl,
      httpVersion: "1.1",
      useBinaryFormat: false,
      nodeOptions: { agent: createAgent() },
    }),
  "gRPC-Web over HTTP/1.1": (baseUrl) =>
    createGrpcWebTransport({ baseUrl, httpVersion: "1.1", nodeOptions: { agent: createAgent() } }),
  "gRPC over HTTP/2": (baseUrl) => createGrpcTransport({ baseUrl, sessionManager: createSession(baseUrl) }),
  "Connect over HTTP/2": (baseUrl) =>
    createConnectTransport({ baseUrl, httpVersion: "2", sessionManager: createSession(baseUrl) }),
};

/** Creates a gRPC transport with its own connection, which is closed after the test. */
export function grpcTransport(baseUrl: string, interceptors: Interceptor[] = []): Transport {
  return createGrpcTransport({ baseUrl, interceptors, sessionManager: createSession(baseUrl) });
}

function createAgent(): http.Agent {
  const agent = new http.Agent({ keepAlive: true });
  cleanUp(() => agent.destroy());
  return agent;
}

function createSession(baseUrl: string): Http2SessionManager {
  const session = new Http2SessionManager(baseUrl);
  cleanUp(() => session.abort());
  return session;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
}

/** Sends one HTTP/1.1 request on its own connection. */
export function send(
  url: string,
  options: {
    method?: string;
    headers?: Record<string, string>;
    body?: string | Uint8Array;
    chunked?: boolean;
  } = {},
): Promise<HttpAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const method = options.method ?? (options.body === undefined ? "GET" : "POST");
  const request = http.request(url, { method, headers: options.headers, agent: false }, async (response) => {
    try {
      const body = Buffer.concat(await response.toArray());
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body, text: body.toString() });
    } catch (error) {
      reject(error);
    }
  });
  request.on("error", reject);
  if (options.chunked) request.write(options.body?.slice(0, 1) ?? "");
  request.end(options.chunked ? options.body?.slice(1) : options.body);
  return promise;
}

/** Sends a call as Connect JSON, the way curl does. */
export function sendJson(
  url: string,
  body: string,
  headers: Record<string, string> = {},
): Promise<HttpAnswer> {
  return send(url, { body, headers: { "content-type": "application/json", ...headers } });
}

/** Opens a plain TCP connection, which is closed after the test. */
export async function openSocket(listener: Listener): Promise<Socket> {
  const socket = connectSocket(listener.port, "127.0.0.1");
  socket.on("error", () => undefined);
  cleanUp(() => {
    socket.destroy();
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("connect", resolve);
  await promise;
  return socket;
}
