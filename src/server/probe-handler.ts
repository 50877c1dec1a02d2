import { cors } from "@connectrpc/connect";
import type { Authenticator } from "../auth/authenticator.ts";
import { UNRESTRICTED } from "../auth/caller.ts";
import { ServiceError } from "../memory/model/errors.ts";
import type { MetricsReport } from "../observability/metrics.ts";
import { requestIdHeader } from "../rpc/call-log.ts";
import type { Logger } from "../util/logger.ts";
import { authenticateRequest, requestCredentials } from "./authenticate-request.ts";
import { type AccessVerdict, refusalError } from "./host-guard.ts";
import type { HttpRequest, HttpResponse } from "./request-body.ts";

/** Whether the server can serve requests, and why not. */
export interface ReadinessReport {
  readonly ready: boolean;
  /** The checks by name. `detail` is one sentence without secrets. */
  readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly detail: string }>>;
}

export interface PlainHandlerOptions {
  /** Called for each `/readyz`. */
  readonly readiness: () => Promise<ReadinessReport>;
  /** Aborted with a ConnectError when running calls have to end. */
  readonly shutdownSignal: AbortSignal;
  readonly logger: Logger;
  /** Undefined if callers need no credentials. */
  readonly authenticator?: Pick<Authenticator, "authenticate"> | undefined;
  /** Returns the answer to `/metrics`; the path does not exist without it. */
  readonly metrics?: (() => Promise<MetricsReport>) | undefined;
}

/** How long browsers may cache a preflight. They limit it to two hours themselves. */
const preflightMaxAgeSeconds = 7_200;

/**
 * Creates the handler of requests that are not RPCs: `/livez`, `/readyz`, `/metrics`, preflight requests and unknown paths. It
 * resolves to the status of its answer.
 */
export function createPlainHandler(options: PlainHandlerOptions) {
  const { logger, authenticator } = options;
  return async function handle(
    request: HttpRequest,
    response: HttpResponse,
    { path, isRpc, verdict }: { path: string; isRpc: boolean; verdict: AccessVerdict },
  ): Promise<number> {
    if (verdict.kind === "malformed") return sendText(request, response, 400, "malformed host");
    if (verdict.kind !== "allowed") return sendText(request, response, 403, refusalError(verdict).message);
    if (request.method === "OPTIONS" && verdict.origin !== undefined) return sendPreflight(request, response);
    if (isRpc) {
      response.setHeader("allow", "POST");
      return sendText(request, response, 405, "use POST");
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      return sendText(request, response, 404, "not found");
    }
    if (path === "/livez") return sendText(request, response, 200, "ok");
    if (path === "/readyz") {
      const report = await readinessOf(options);
      // Anyone may ask whether the server is ready. With authentication, the reasons are not public.
      const shown = authenticator === undefined ? report : withoutDetails(report);
      return send(
        request,
        response,
        report.ready ? 200 : 503,
        "application/json",
        `${JSON.stringify(shown)}\n`,
      );
    }
    if (path === "/metrics" && options.metrics !== undefined) {
      const caller =
        authenticator === undefined
          ? UNRESTRICTED
          : await authenticateRequest(authenticator, request, logger);
      if (caller instanceof ServiceError) {
        requestCredentials(response, caller);
        const status = caller.reason === "UNAUTHENTICATED" ? 401 : 503;
        return sendText(request, response, status, caller.message);
      }
      if (!caller.metrics) return sendText(request, response, 403, "the credentials do not allow metrics");
      const { contentType, text } = await options.metrics();
      return send(request, response, 200, contentType, text);
    }
    return sendText(request, response, 404, "not found");
  };
}

async function readinessOf(options: PlainHandlerOptions): Promise<ReadinessReport> {
  if (options.shutdownSignal.aborted) {
    return { ready: false, checks: { server: { ok: false, detail: "shutting down" } } };
  }
  try {
    return await options.readiness();
  } catch (error) {
    options.logger.warn({ err: error }, "readiness check failed");
    return { ready: false, checks: { readiness: { ok: false, detail: "the check itself failed" } } };
  }
}

function withoutDetails({ ready, checks }: ReadinessReport): ReadinessReport {
  const bare = Object.entries(checks).map(
    ([name, { ok }]) => [name, { ok, detail: ok ? "works" : "does not work" }] as const,
  );
  return { ready, checks: Object.fromEntries(bare) };
}

function sendPreflight(request: HttpRequest, response: HttpResponse): number {
  response.setHeader("access-control-allow-methods", "POST");
  response.setHeader(
    "access-control-allow-headers",
    [...cors.allowedHeaders, requestIdHeader, "authorization"].join(", "),
  );
  response.setHeader("access-control-max-age", preflightMaxAgeSeconds);
  if (request.headers["access-control-request-private-network"] === "true") {
    response.setHeader("access-control-allow-private-network", "true");
  }
  response.statusCode = 204;
  response.end();
  return 204;
}

function sendText(request: HttpRequest, response: HttpResponse, status: number, text: string): number {
  return send(request, response, status, "text/plain; charset=utf-8", `${text}\n`);
}

function send(
  request: HttpRequest,
  response: HttpResponse,
  status: number,
  contentType: string,
  body: string,
): number {
  response.statusCode = status;
  response.setHeader("content-type", contentType);
  response.setHeader("content-length", Buffer.byteLength(body));
  response.setHeader("x-content-type-options", "nosniff");
  response.end(request.method === "HEAD" ? "" : body);
  return status;
}
