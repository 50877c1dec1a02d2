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
import { failSpan } from "../../observability/spans.ts";
import { kCall } from "../call-log.ts";
import { connectErrorFrom } from "./errors.ts";

/** Codes of server errors. Other codes are client errors and do not mark the span as failed. */
const serverFaults: ReadonlySet<Code> = new Set([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

/**
 * Creates a SERVER span for every call with a decodable request. The span is active while the handler runs. This must
 * be the outermost interceptor. Callers are not trusted: the span links to the client's trace, which determines neither
 * the trace id nor the sampling. Without an SDK the cost is some hundred nanoseconds a call.
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
    // Without an SDK there is no context to propagate either.
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

/** Returns links to the client's trace. Empty unless the host process has registered a propagator. */
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
      // Connect defines no name for success.
      span.setAttribute("rpc.response.status_code", "OK");
    }
    span.end();
  };
}

/** Returns gRPC's name of a code, such as `NOT_FOUND`. gRPC spells CANCELLED with two Ls. */
function grpcNameOf(code: Code): string {
  return code === Code.Canceled ? "CANCELLED" : codeToString(code).toUpperCase();
}

/**
 * Forwards messages, with the span active while their generator runs. Ends the span when the messages end or fail, when
 * the consumer stops, or when the call is aborted while no message is requested.
 */
function followMessages<T>(
  messages: AsyncIterable<T>,
  active: Context,
  signal: AbortSignal,
  end: EndSpan,
): AsyncIterable<T> {
  let requested = false;
  const aborted = () => connectErrorFrom(signal.reason, signal);
  const onAbort = () => {
    if (!requested) finish(aborted());
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
          requested = true;
          try {
            const result = await context.with(active, () => iterator.next());
            // After an abort nothing reaches the client, not even a regular end.
            if (signal.aborted) finish(aborted());
            else if (result.done) finish(undefined);
            return result;
          } catch (error) {
            finish(connectErrorFrom(error, signal));
            throw error;
          } finally {
            requested = false;
          }
        },
        async return(value?: unknown) {
          finish(
            signal.aborted ? aborted() : new ConnectError("the client canceled the call", Code.Canceled),
          );
          await context.with(active, () => iterator.return?.());
          return { done: true, value };
        },
      };
    },
  };
}
