import { Http2ServerRequest } from "node:http2";
import { cors } from "@connectrpc/connect";
import type { FinishedCall } from "../observability/call-metrics.ts";
import { type Call, createCall, logCall, requestIdHeader } from "../rpc/call-log.ts";
import { createCallLimiter } from "./call-limit.ts";
import { type AccessRules, checkAccess } from "./host-guard.ts";
import { createPlainHandler, type PlainHandlerOptions } from "./probe-handler.ts";
import { discardUnreadBody, type HttpRequest, type HttpResponse } from "./request-body.ts";
import type { ResponseOutcome } from "./response-code.ts";
import { destroyIfUnread } from "./response-stream.ts";
import { createRpcRouter, type RpcRouterOptions } from "./rpc-router.ts";
import { createRpcServer } from "./serve-rpc.ts";

export interface HttpHandlerOptions extends PlainHandlerOptions, RpcRouterOptions {
  /** Returns the rules for hosts and origins, which are known once the server listens. */
  readonly accessRules: () => AccessRules;
  /** Maximum number of concurrent calls; the server refuses more as OVERLOADED. Defaults to 500. */
  readonly maxCalls?: number;
  /** Maximum size of concurrent requests, decompressed; the server refuses more as OVERLOADED. Defaults to 256 MiB. */
  readonly maxRequestBytes?: number;
  /**
   * `requestMs`: time for a request to arrive completely, and for a client to read an answer of one message. `streamMs`: time
   * between two messages of a client stream. Defaults to 60 s and 10 minutes.
   */
  readonly bodyTimeouts?: { readonly requestMs: number; readonly streamMs: number };
  /** Called for each call that has ended: RPCs, and POST requests to unknown paths. */
  readonly onCall?: ((call: FinishedCall) => void) | undefined;
}

const DEFAULT_BODY_TIMEOUTS = { requestMs: 60_000, streamMs: 600_000 };

/** 64 requests of the maximum size. */
const DEFAULT_MAX_REQUEST_BYTES = 256 * 1024 * 1024;

/**
 * Creates the handler of all HTTP requests of both versions: RPCs in the three protocols, `/livez`, `/readyz`, `/metrics` and
 * preflight requests. It checks host and origin first, and writes one access log line for each request.
 *
 * It replaces connectNodeAdapter, which crashes the process on a Host that is not a valid URL, prints to the console, and resets
 * HTTP/1.1 connections instead of answering that a message is too large.
 */
export function createHttpHandler(options: HttpHandlerOptions) {
  const { logger, authenticator } = options;
  const router = createRpcRouter(options);
  const {
    maxCalls = 500,
    maxRequestBytes = DEFAULT_MAX_REQUEST_BYTES,
    bodyTimeouts = DEFAULT_BODY_TIMEOUTS,
  } = options;
  const handlePlain = createPlainHandler(options);
  const limiter = createCallLimiter({ maxCalls, maxRequestBytes, maxBytesPerCall: options.maxMessageBytes });
  const rpcs = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const serveRpc = createRpcServer({ limiter, bodyTimeouts, authenticator, onEnd: finish, logger });

  return function handle(request: HttpRequest, response: HttpResponse): void {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    const rpc = rpcs.get(path);
    const call = createCall(
      rpc === undefined ? `${request.method} ${path}` : path.slice(1),
      request.headers[requestIdHeader],
    );
    response.setHeader(requestIdHeader, call.requestId);
    discardUnreadBody(request, response);

    const verdict = checkAccess(options.accessRules(), authorityOf(request), request.headers.origin);
    if (verdict.kind === "allowed" && verdict.origin !== undefined) allowOrigin(response, verdict.origin);

    if (rpc !== undefined && request.method === "POST" && verdict.kind !== "malformed") {
      serveRpc(rpc, request, response, call, verdict.kind === "allowed" ? undefined : verdict);
      return;
    }
    destroyIfUnread(request, response, bodyTimeouts.requestMs);
    handlePlain(request, response, { path, isRpc: rpc !== undefined, verdict }).then(
      (status) => {
        logCall(logger, call, { status });
        if (request.method === "POST") report(call, rpc && call.method, { status });
      },
      (error) => {
        logger.error({ err: error, method: call.method, requestId: call.requestId }, "request failed");
        response.destroy();
      },
    );
  };

  function finish(call: Call, outcome: ResponseOutcome): void {
    logCall(logger, call, outcome);
    report(call, call.method, outcome);
  }

  function report(call: Call, method: string | undefined, outcome: ResponseOutcome): void {
    options.onCall?.({
      method,
      outcome,
      seconds: (performance.now() - call.startedAt) / 1_000,
      hits: call.facts.hits,
    });
  }
}

function authorityOf(request: HttpRequest): string | undefined {
  return request instanceof Http2ServerRequest ? request.authority : request.headers.host;
}

function allowOrigin(response: HttpResponse, origin: string): void {
  response.setHeader("vary", "Origin");
  response.setHeader("access-control-allow-origin", origin);
  response.setHeader("access-control-expose-headers", [...cors.exposedHeaders, requestIdHeader].join(", "));
}
