import type { Code } from "@connectrpc/connect";
import { codeFromHttpStatus, codeToString } from "@connectrpc/connect/protocol-connect";
import { Counter, Histogram, type Registry } from "prom-client";

/** A finished call, from the client's point of view. */
export interface FinishedCall {
  /** `package.Service/Method`. Undefined if the RPC does not exist, so that clients cannot create arbitrary labels. */
  readonly method: string | undefined;
  /** The code of the RPC (undefined for success), or the HTTP status of a response from outside an RPC. */
  readonly outcome: { readonly code: Code | undefined } | { readonly status: number };
  /** Time from the arrival of the call to the end of its response. */
  readonly seconds: number;
  /** Number of hits sent. Undefined unless the call is a search. */
  readonly hits: number | undefined;
}

/** Buckets in seconds. Calls above the last one are streams or stuck. */
const callBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const labelNames = ["rpc_method", "rpc_response_status_code"] as const;

/** Registers the metrics of calls. Returns a function that counts a finished call. */
export function registerCallMetrics(registry: Registry): (call: FinishedCall) => void {
  const registers = [registry];
  const calls = new Counter({
    name: "rpc_server_calls_total",
    help: 'Number of finished calls by method and status code. The method is "unknown" if it does not exist.',
    labelNames,
    registers,
  });
  const duration = new Histogram({
    name: "rpc_server_call_duration_seconds",
    help: "Time from the arrival of a call to the end of its response or stream, in seconds.",
    labelNames,
    buckets: callBuckets,
    registers,
  });
  const hits = new Counter({
    name: "memory_service_hits_total",
    help: "Number of hits sent by searches, counted at the end of the call. Includes the hits of interrupted streams.",
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

/** Returns the code as in the access log, such as `ok` or `not_found`. */
function codeLabel(outcome: FinishedCall["outcome"]): string {
  const code = "status" in outcome ? codeFromHttpStatus(outcome.status) : outcome.code;
  return code === undefined ? "ok" : codeToString(code);
}
