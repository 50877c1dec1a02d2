import { constants, Http2ServerRequest } from "node:http2";
import { createRegistry } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  cors,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { UNAUTHENTICATED } from "../auth/caller.ts";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../generated/google/rpc/error_details_pb.ts";
import { ServiceError } from "../memory/model/errors.ts";
import type { FinishedCall } from "../observability/call-metrics.ts";
import { type Call, createCall, kCall, logCall, requestIdHeader } from "../rpc/call-log.ts";
import { kCaller } from "../rpc/caller.ts";
import { connectErrorFrom } from "../rpc/interceptors/errors.ts";
import { isPublic } from "../rpc/methods.ts";
import { demandCredentials, whoCalls } from "./authenticate-request.ts";
import { type CallSlot, createCallLimiter } from "./call-limit.ts";
import { compressions, countGrowth } from "./compression.ts";
import { type AccessRules, checkAccess, type Refusal, refusalError } from "./host-guard.ts";
import { createPlainHandler, type PlainHandlerOptions } from "./probe-handler.ts";
import { discardUnreadBody, type HttpRequest, type HttpResponse, requestBody } from "./request-body.ts";
import { observeOutcome, type ResponseOutcome } from "./response-code.ts";
import { forgetDistantDeadline } from "./workarounds/distant-deadline.ts";
import { simplifyGrpcMessage } from "./workarounds/grpc-message.ts";
import { explainMediaType } from "./workarounds/media-type.ts";
import { refuseUnencodable } from "./workarounds/unencodable-error.ts";

export interface HttpHandlerOptions extends PlainHandlerOptions {
  readonly routes: (router: ConnectRouter) => void;
  /** First is outermost. */
  readonly interceptors: readonly Interceptor[];
  /** Most bytes of one message in either direction, also after decompression. */
  readonly maxMessageBytes: number;
  /** Fewest bytes of an answer worth compressing, for a client that accepts it. Default: 32 KiB. */
  readonly compressMinBytes?: number;
  /** Known once the server listens. */
  readonly accessRules: () => AccessRules;
  /** Calls at once; more are refused as OVERLOADED. Default 500. */
  readonly maxCalls?: number;
  /** Bytes of requests at once, decompressed; more are refused as OVERLOADED. Default: 64 of the largest, 256 MiB. */
  readonly maxRequestBytes?: number;
  /** For a request to arrive as a whole, and for an answer of one message to be taken; for a client stream, until more of it comes. Default: 60 s, 10 minutes. */
  readonly bodyTimeouts?: { readonly requestMs: number; readonly streamMs: number };
  /** Told of each call that has ended: RPCs, and what was posted where there is none. */
  readonly onCall?: ((call: FinishedCall) => void) | undefined;
}

const defaultBodyTimeouts = { requestMs: 60_000, streamMs: 600_000 };

const defaultMaxRequestBytes = 256 * 1024 * 1024;

/**
 * Connect's own default is 1 KiB. grpc-js always accepts gzip, and with it answers of 5 KB were 1,500 calls/s
 * instead of 2,300 on one machine. Only bulk is worth that.
 */
const defaultCompressMinBytes = 32 * 1024;

/** Why a call is refused whatever it asks for. */
const kRefusal = createContextKey<ServiceError | undefined>(undefined, { description: "refusal" });

/**
 * Creates the handler of every HTTP request, of either version: RPCs in the three protocols, `/livez`, `/readyz`,
 * `/metrics`, preflights; host and origin checks before, one access log line after each.
 *
 * It stands in for connectNodeAdapter, which crashes the process on a Host that is no URL, prints to the
 * console, and resets HTTP/1.1 connections where it should answer that a message is too large.
 */
export function createHttpHandler(options: HttpHandlerOptions) {
  const { logger, authenticator } = options;
  const router = createConnectRouter({
    interceptors: [...options.interceptors],
    readMaxBytes: options.maxMessageBytes,
    writeMaxBytes: options.maxMessageBytes,
    compressMinBytes: options.compressMinBytes ?? defaultCompressMinBytes,
    shutdownSignal: options.shutdownSignal,
    acceptCompression: [...compressions],
    // A mistyped `dry_run` must not delete.
    jsonOptions: {
      ignoreUnknownFields: false,
      registry: createRegistry(ErrorInfoSchema, BadRequestSchema, RetryInfoSchema),
    },
    // So deep that a filter of 400 levels, two messages each, gets the handler's own answer. The call stack lasts for
    // about 1,600 where the innermost are metadata: objects in objects.
    binaryOptions: { recursionLimit: 1_000 },
    // Before the body is read, so refusing is cheap and no handler runs.
    requestGate(context) {
      const refusal = context.values.get(kRefusal);
      if (refusal !== undefined) throw connectErrorFrom(refusal);
    },
  });
  options.routes(router);
  const {
    maxCalls = 500,
    maxRequestBytes = defaultMaxRequestBytes,
    bodyTimeouts = defaultBodyTimeouts,
  } = options;
  const handlePlain = createPlainHandler(options);
  const limiter = createCallLimiter({ maxCalls, maxRequestBytes, maxBytesPerCall: options.maxMessageBytes });
  const rpcs = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

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
    cutUnlessTaken(request, response);
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

  /** Cuts a client that leaves a whole answer lying about: it keeps its stream, and up to 4 MiB. */
  function cutUnlessTaken(request: HttpRequest, response: HttpResponse): void {
    const timer = setTimeout(() => cut(request, response), bodyTimeouts.requestMs).unref();
    response.once("close", () => clearTimeout(timer));
  }

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

  /** A probe always gets in: whoever watches health on many streams must not have the server taken for dead. */
  function enter({ service, method }: UniversalHandler): CallSlot | ServiceError | undefined {
    if (!isPublic(service)) return limiter.enter("work");
    return method.methodKind === "unary" ? undefined : limiter.enter("open");
  }

  function serveRpc(
    rpc: UniversalHandler,
    request: HttpRequest,
    response: HttpResponse,
    call: Call,
    refusal: Refusal | undefined,
  ): void {
    let outcome: () => ResponseOutcome | undefined = () => undefined;
    const slot = enter(rpc);
    response.once("close", () => {
      if (!(slot instanceof ServiceError)) slot?.leave();
      if (!isSent(request, response)) {
        finish(call, { code: call.code ?? Code.Canceled });
        return;
      }
      // A compressed end tells nothing, nor is it ever one without an error: it would be too short to compress.
      const sent = outcome() ?? { code: call.code ?? Code.Unknown };
      finish(call, "status" in sent && call.code !== undefined ? { code: call.code } : sent);
    });
    const hold = (bytes: number) => {
      try {
        if (!(slot instanceof ServiceError)) slot?.hold(bytes);
      } catch (error) {
        throw connectErrorFrom(error);
      }
    };
    const run = async () => {
      const values = createContextValues().set(kCall, call);
      if (refusal !== undefined) values.set(kRefusal, refusalError(refusal));
      else if (slot instanceof ServiceError) values.set(kCaller, UNAUTHENTICATED).set(kRefusal, slot);
      else if (authenticator !== undefined) {
        const caller = isPublic(rpc.service)
          ? UNAUTHENTICATED
          : await whoCalls(authenticator, request, logger);
        if (caller instanceof ServiceError) {
          values.set(kCaller, UNAUTHENTICATED).set(kRefusal, caller);
          demandCredentials(response, caller);
        } else {
          values.set(kCaller, caller);
          if (caller.name !== "") call.facts.caller = caller.name;
        }
      }
      // A client that does not read why it is refused must not keep a place from those that are not.
      if (values.get(kRefusal) !== undefined && !(slot instanceof ServiceError)) slot?.leave();
      const universal = universalRequestFromNodeRequest(request, response, undefined, values);
      forgetDistantDeadline(universal.header);
      const perWait =
        rpc.method.methodKind === "client_streaming" || rpc.method.methodKind === "bidi_streaming";
      const body = requestBody(request, {
        timeoutMs: perWait ? bodyTimeouts.streamMs : bodyTimeouts.requestMs,
        perWait,
        hold,
      });
      const answer = await rpc({ ...universal, body }).then(explainMediaType, (error: unknown) =>
        refuseUnencodable(error, request.headers["content-type"] ?? ""),
      );
      const observed = observeOutcome(answer, () => simplifyGrpcMessage(answer.trailer));
      outcome = observed.outcome;
      const streams =
        rpc.method.methodKind === "server_streaming" || rpc.method.methodKind === "bidi_streaming";
      const streamed = streams && values.get(kRefusal) === undefined;
      const answered = streamed ? observed.response : takenInTime(observed.response, request, response);
      await universalResponseToNodeResponse(answered, response);
    };
    countGrowth.run(hold, run).catch((error: unknown) => {
      // Writing to a client that has left is no news.
      if (!response.destroyed && !isWriteCut(error)) {
        logger.error({ err: error, method: call.method, requestId: call.requestId }, "response failed");
      }
      response.destroy();
    });
  }

  /** From the first part of an answer on: until then it is the server that takes its time. */
  function takenInTime(
    answer: UniversalServerResponse,
    request: HttpRequest,
    response: HttpResponse,
  ): UniversalServerResponse {
    const { body } = answer;
    if (body === undefined) return answer;
    async function* timed(chunks: AsyncIterable<Uint8Array>) {
      let first = true;
      for await (const chunk of chunks) {
        if (first) cutUnlessTaken(request, response);
        first = false;
        yield chunk;
      }
    }
    return { ...answer, body: timed(body) };
  }
}

function authorityOf(request: HttpRequest): string | undefined {
  return request instanceof Http2ServerRequest ? request.authority : request.headers.host;
}

/** True if the response could not be written because its stream has ended: by the client, or cut by a stop. */
function isWriteCut(error: unknown): boolean {
  const { code, cause } = ConnectError.from(error);
  if (code === Code.Aborted || code === Code.Canceled) return true;
  // What connect makes of a write that was waiting for a client's window when its stream was reset.
  return cause instanceof Error && "code" in cause && cause.code === "ECANCELED";
}

/** True if the whole response has been handed to a client that still listened. */
function isSent(request: HttpRequest, response: HttpResponse): boolean {
  return request instanceof Http2ServerRequest ? request.stream.rstCode === 0 : response.writableFinished;
}

function cut(request: HttpRequest, response: HttpResponse): void {
  if (!(request instanceof Http2ServerRequest)) response.destroy();
  // A client that resets a stream without an error leaves what was being written to it, and Node the stream.
  else if (request.stream.closed) request.stream.destroy();
  else request.stream.close(constants.NGHTTP2_CANCEL);
}

function allowOrigin(response: HttpResponse, origin: string): void {
  response.setHeader("vary", "Origin");
  response.setHeader("access-control-allow-origin", origin);
  response.setHeader("access-control-expose-headers", [...cors.exposedHeaders, requestIdHeader].join(", "));
}
