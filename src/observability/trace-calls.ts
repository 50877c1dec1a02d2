import {
  Code,
  ConnectError,
  type Interceptor,
  type StreamRequest,
  type UnaryRequest,
} from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import {
  type Attributes,
  type Context,
  context,
  INVALID_TRACEID,
  type Link,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  type TextMapGetter,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { kCall } from "../rpc/call-log.ts";
import { connectErrorFrom } from "../rpc/interceptors/errors.ts";
import { failSpan } from "./spans.ts";

/** Codes that blame the server; the others are the client's affair and leave its span without an error. */
const serverFaults: ReadonlySet<Code> = new Set([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

/**
 * Makes a SERVER span of every call whose request could be decoded, active while its handler works. Has to be the
 * outermost interceptor. Who calls is not trusted: the trace of a client is linked to, and decides neither the id
 * nor the sampling of ours. Without an SDK this costs some hundred nanoseconds a call.
 */
export function createTraceInterceptor(tracer: Tracer): Interceptor {
  return (next) => (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    const grpc = request.header.get("content-type")?.startsWith("application/grpc") ?? false;
    const span = tracer.startSpan(method, {
      kind: SpanKind.SERVER,
      attributes: attributesOf(request, method, grpc),
      links: linksTo(request.header),
    });
    // No SDK: there is nothing to hand on either.
    if (span.spanContext().traceId === INVALID_TRACEID) return next(request);

    const active = trace.setSpan(context.active(), span);
    const end = endOnce(span, grpc);
    return context.with(active, async () => {
      try {
        const response = await next(request);
        if (!response.stream) {
          end(undefined);
          return response;
        }
        return { ...response, message: followMessages(response.message, active, request.signal, end) };
      } catch (error) {
        end(connectErrorFrom(error, request.signal));
        throw error;
      }
    });
  };
}

type EndSpan = (error: ConnectError | undefined) => void;

function attributesOf(request: UnaryRequest | StreamRequest, method: string, grpc: boolean): Attributes {
  const requestId = request.contextValues.get(kCall)?.requestId;
  return {
    "rpc.system.name": grpc ? "grpc" : "connectrpc",
    "rpc.method": method,
    ...(requestId === undefined ? {} : { "memory_service.request_id": requestId }),
  };
}

const headerGetter: TextMapGetter<Headers> = {
  keys: (headers) => [...headers.keys()],
  get: (headers, key) => headers.get(key) ?? undefined,
};

/** By the propagator that the host has registered; without one there are no links. */
function linksTo(headers: Headers): Link[] {
  const remote = trace.getSpanContext(propagation.extract(ROOT_CONTEXT, headers, headerGetter));
  return remote === undefined || !trace.isSpanContextValid(remote) ? [] : [{ context: remote }];
}

function endOnce(span: Span, grpc: boolean): EndSpan {
  let ended = false;
  return (error) => {
    if (ended) return;
    ended = true;
    if (error !== undefined) {
      const name = grpc ? grpcNameOf(error.code) : codeToString(error.code);
      span.setAttribute("rpc.response.status_code", name);
      if (serverFaults.has(error.code)) failSpan(span, name);
    } else if (grpc) {
      // Connect has no name for success.
      span.setAttribute("rpc.response.status_code", "OK");
    }
    span.end();
  };
}

/** `NOT_FOUND`; gRPC spells one of them differently. */
function grpcNameOf(code: Code): string {
  return code === Code.Canceled ? "CANCELLED" : codeToString(code).toUpperCase();
}

/**
 * Passes messages on, with the span active wherever their generator runs, and ends the span with them: at their
 * end, at an error, when the consumer leaves, or when the call is aborted while nobody asks for the next message.
 */
function followMessages<T>(
  messages: AsyncIterable<T>,
  active: Context,
  signal: AbortSignal,
  end: EndSpan,
): AsyncIterable<T> {
  let asked = false;
  const aborted = () => connectErrorFrom(signal.reason, signal);
  const onAbort = () => {
    if (!asked) finish(aborted());
  };
  const finish: EndSpan = (error) => {
    signal.removeEventListener("abort", onAbort);
    end(error);
  };
  signal.addEventListener("abort", onAbort, { once: true });

  return {
    [Symbol.asyncIterator]() {
      const iterator = context.with(active, () => messages[Symbol.asyncIterator]());
      return {
        async next() {
          asked = true;
          try {
            const result = await context.with(active, () => iterator.next());
            // What comes after the abort does not reach the client, not even a regular end.
            if (signal.aborted) finish(aborted());
            else if (result.done) finish(undefined);
            return result;
          } catch (error) {
            finish(connectErrorFrom(error, signal));
            throw error;
          } finally {
            asked = false;
          }
        },
        async return(value?: unknown) {
          finish(signal.aborted ? aborted() : new ConnectError("the client left", Code.Canceled));
          await context.with(active, () => iterator.return?.());
          return { done: true, value };
        },
      };
    },
  };
}
