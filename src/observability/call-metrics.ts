import type { Code } from "@connectrpc/connect";
import { codeFromHttpStatus, codeToString } from "@connectrpc/connect/protocol-connect";
import { Counter, Histogram, type Registry } from "prom-client";

/** A call that has ended, as its client saw it. */
export interface FinishedCall {
  /** `package.Service/Method`; undefined where the server has no such RPC: names that clients invent are no labels. */
  readonly method: string | undefined;
  /** A code, success (code undefined), or the HTTP status of an answer that no RPC gave. */
  readonly outcome: { readonly code: Code | undefined } | { readonly status: number };
  /** From its arrival to the end of the response. */
  readonly seconds: number;
  /** Hits that were sent, of searches. */
  readonly hits: number | undefined;
}

/** Seconds. Below the first a call costs nothing worth a look, above the last it is a stream or stuck. */
const callBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const labelNames = ["rpc_method", "rpc_response_status_code"] as const;

/** Registers the metrics of calls and returns what counts one. */
export function registerCallMetrics(registry: Registry): (call: FinishedCall) => void {
  const registers = [registry];
  const calls = new Counter({
    name: "rpc_server_calls_total",
    help: 'Finished calls by method and status code; a method that does not exist is "unknown".',
    labelNames,
    registers,
  });
  const duration = new Histogram({
    name: "rpc_server_call_duration_seconds",
    help: "From the arrival of a call to the end of its response; a stream lasts until its end.",
    labelNames,
    buckets: callBuckets,
    registers,
  });
  const hits = new Counter({
    name: "memory_service_hits_total",
    help: "Hits sent by searches, counted when the call ends; streams count what was sent before they ended.",
    labelNames: ["rpc_method"] as const,
    registers,
  });
  return (call) => {
    const method = call.method ?? "unknown";
    const labels = { rpc_method: method, rpc_response_status_code: codeLabel(call.outcome) };
    calls.inc(labels);
    duration.observe(labels, call.seconds);
    if (call.hits !== undefined && call.hits > 0) hits.inc({ rpc_method: method }, call.hits);
  };
}

/** As the access log writes it: `ok`, `not_found`. */
function codeLabel(outcome: FinishedCall["outcome"]): string {
  const code = "status" in outcome ? codeFromHttpStatus(outcome.status) : outcome.code;
  return code === undefined ? "ok" : codeToString(code);
}
