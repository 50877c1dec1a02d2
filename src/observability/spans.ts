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

/** What a CLIENT span is called and says. */
export interface SpanDescription {
  readonly name: string;
  readonly attributes: Attributes;
}

/**
 * Runs `work` in a CLIENT span below the active one. Where none is active (no SDK, no context manager, background
 * work) it just runs, for some nanoseconds more.
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

/** Marks a span as failed. Messages stay out of it: those of drivers may quote what was stored. */
export function failSpan(span: Span, errorType: string): void {
  span.setAttribute("error.type", errorType);
  span.setStatus({ code: SpanStatusCode.ERROR });
}

/** A name of few values: a reason, a kind, an SQLSTATE. */
function errorTypeOf(error: unknown): string {
  if (error instanceof ServiceError) return error.reason;
  if (error instanceof DatabaseError) return error.sqlstate;
  if (error instanceof EmbedError) return error.kind;
  if (isAbort(error)) return "CANCELED";
  return error instanceof Error ? error.name : "_OTHER";
}
