import {
  type Attributes,
  context,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { EmbedError } from "../memory/model/embedder.ts";
import { isAbort, ServiceError } from "../memory/model/errors.ts";
import { DatabaseError } from "../storage/database/database.ts";

/** Name and attributes of a CLIENT span. */
export interface SpanDescription {
  readonly name: string;
  readonly attributes: Attributes;
}

/**
 * Runs `work` in a CLIENT span, as a child of the active span. Without an active span (no SDK, no context manager,
 * background work) it only runs `work`, at a cost of some nanoseconds.
 */
export function inChildSpan<T>(
  tracer: Tracer,
  describe: () => SpanDescription,
  work: () => Promise<T>,
): Promise<T> {
  if (trace.getActiveSpan() === undefined) return work();
  const { name, attributes } = describe();
  const span = tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes });
  return context.with(trace.setSpan(context.active(), span), async () => {
    try {
      return await work();
    } catch (error) {
      failSpan(span, errorTypeOf(error));
      throw error;
    } finally {
      span.end();
    }
  });
}

/** Marks a span as failed. Omits the message, because messages of drivers may quote stored content. */
export function failSpan(span: Span, errorType: string): void {
  span.setAttribute("error.type", errorType);
  span.setStatus({ code: SpanStatusCode.ERROR });
}

/** Returns a low-cardinality name: a reason, a kind or an SQLSTATE. */
function errorTypeOf(error: unknown): string {
  if (error instanceof ServiceError) return error.reason;
  if (error instanceof DatabaseError) return error.sqlstate;
  if (error instanceof EmbedError) return error.kind;
  if (isAbort(error)) return "CANCELED";
  return error instanceof Error ? error.name : "_OTHER";
}
