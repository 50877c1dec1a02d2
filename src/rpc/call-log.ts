import { randomUUID } from "node:crypto";
import { type Code, type ContextValues, createContextKey } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import type { Logger } from "../util/logger.ts";

/** Facts that handlers add to the access log: `domain`, `hits` and others that help an operator; never content. */
export interface CallFacts {
  domain?: string;
  hits?: number;
  [fact: string]: string | number | boolean | undefined;
}

/** One call, from its arrival at the listener until its HTTP response has ended. */
export interface Call {
  /** The client's `x-request-id` if it is valid, otherwise a generated one. Returned in the response header. */
  readonly requestId: string;
  /** `package.Service/Method`, or HTTP verb and path where no such RPC exists. */
  readonly method: string;
  /** `performance.now()` at arrival. */
  readonly startedAt: number;
  readonly facts: CallFacts;
  /** Code of the error that a handler threw. What was sent to the client takes precedence over it. */
  code: Code | undefined;
}

/** The call that a handler or an interceptor works for; undefined without a listener, as in tests in memory. */
export const kCall = createContextKey<Call | undefined>(undefined, { description: "call" });

/** Response and request header that carries the request id. */
export const requestIdHeader = "x-request-id";

/** Printable ASCII without spaces: an id ends up in logs and headers. */
const saneRequestId = /^[\x21-\x7e]{1,128}$/;

/** Adds facts to the access log line of the call; does nothing where there is no listener. */
export function noteCall(context: { readonly values: ContextValues }, facts: CallFacts): void {
  const call = context.values.get(kCall);
  if (call !== undefined) Object.assign(call.facts, facts);
}

export function createCall(method: string, requestId: string | string[] | undefined): Call {
  const sane = typeof requestId === "string" && saneRequestId.test(requestId);
  return {
    requestId: sane ? requestId : randomUUID(),
    method: method.slice(0, 200),
    startedAt: performance.now(),
    facts: {},
    code: undefined,
  };
}

/** Methods that are logged at debug level, because probes call them every few seconds. */
const quietMethods = /^(grpc\.health\.v1\.Health\/|GET \/(livez|readyz|metrics)$)/;

/**
 * Writes the one access log line of a call.
 *
 * @param outcome the code of an RPC (undefined for success), or the HTTP status where it was none.
 */
export function logCall(
  logger: Logger,
  call: Call,
  outcome: { readonly code: Code | undefined } | { readonly status: number },
): void {
  const line = {
    method: call.method,
    ...("status" in outcome
      ? { status: outcome.status }
      : { code: outcome.code === undefined ? "ok" : codeToString(outcome.code) }),
    ms: Math.round((performance.now() - call.startedAt) * 1_000) / 1_000,
    requestId: call.requestId,
    ...call.facts,
  };
  if (quietMethods.test(call.method)) logger.debug(line, "call");
  else logger.info(line, "call");
}
