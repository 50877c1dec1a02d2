import {
  type Context,
  context,
  propagation,
  type TextMapGetter,
  type TextMapPropagator,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";

/** A span as tests compare it, with its children. */
export interface SpanTree {
  readonly name: string;
  readonly children: readonly SpanTree[];
}

/** An SDK, a context manager and the W3C traceparent propagator, as a host process registers them. */
export interface TestTracing {
  readonly tracer: Tracer;
  /** Ended spans, in the order of their end. */
  spans(): ReadableSpan[];
  /** Trees of ended spans. Children are in the order of their start. */
  trees(): SpanTree[];
  /** Discards the recorded spans. */
  reset(): void;
  remove(): void;
}

/** Registers an SDK for the process. Call it once per test file. */
export function registerTracing(): TestTracing {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  trace.setGlobalTracerProvider(provider);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(traceparentPropagator);
  const spans = () => exporter.getFinishedSpans();
  return {
    tracer: trace.getTracer("test"),
    spans,
    trees: () => treesOf(spans()),
    reset: () => exporter.reset(),
    remove: () => {
      trace.disable();
      context.disable();
      propagation.disable();
    },
  };
}

function treesOf(spans: readonly ReadableSpan[]): SpanTree[] {
  const began = (span: ReadableSpan) => span.startTime[0] * 1e9 + span.startTime[1];
  const below = (parent: string | undefined): SpanTree[] =>
    spans
      .filter((span) => span.parentSpanContext?.spanId === parent)
      .sort((a, b) => began(a) - began(b))
      .map((span) => ({ name: span.name, children: below(span.spanContext().spanId) }));
  return below(undefined);
}

const traceparentPropagator: TextMapPropagator = {
  inject() {},
  extract(active: Context, carrier: unknown, getter: TextMapGetter) {
    const [, traceId = "", spanId = "", flags = ""] = String(getter.get(carrier, "traceparent")).split("-");
    if (spanId === "") return active;
    return trace.setSpanContext(active, { traceId, spanId, traceFlags: Number(flags), isRemote: true });
  },
  fields: () => ["traceparent"],
};
