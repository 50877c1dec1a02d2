import { lookup } from "node:dns/promises";
import http from "node:http";
import https from "node:https";
import { text } from "node:stream/consumers";
import type { SecureContextOptions } from "node:tls";
import type { SettingValues } from "../../app/config.ts";
import { hostAndPort } from "./addresses.ts";
import { readClientTls } from "./client-tls.ts";

/** The result of probing the address at which a server should run. */
export type ServerProbe =
  /** A memory-service runs there. */
  | {
      readonly kind: "server";
      readonly url: string;
      readonly ready: boolean;
      readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly detail: string }>>;
    }
  /** Nothing listens there. */
  | { readonly kind: "absent"; readonly url: string }
  /** Something listens there that is not a memory-service or does not respond in time. */
  | { readonly kind: "unrecognized"; readonly url: string; readonly reason: string };

/** Requests `/readyz` from the server with these settings. A wildcard address is probed on loopback. */
export async function probeServer(settings: SettingValues, timeoutMs: number): Promise<ServerProbe> {
  const { MEMORY_HOST: host, MEMORY_PORT: port, MEMORY_TLS_CERT_FILE: certificate } = settings;
  const scheme = certificate === undefined ? "http" : "https";
  const url = `${scheme}://${hostAndPort(await connectAddress(host), port)}`;
  const tls = certificate === undefined ? {} : await readClientTls(settings);
  let answer: { readonly status: number; readonly body: string };
  try {
    answer = await get(`${url}/readyz`, tls, timeoutMs);
  } catch (error) {
    if (isNotListening(error)) return { kind: "absent", url };
    const late = error instanceof Error && error.name === "TimeoutError";
    return { kind: "unrecognized", url, reason: late ? `no answer within ${timeoutMs / 1000} s` : "no HTTP" };
  }
  const report = reportFrom(answer.body);
  if (report === undefined)
    return { kind: "unrecognized", url, reason: `status ${answer.status} for /readyz` };
  return { kind: "server", url, ...report };
}

/** Requests a URL without `fetch`, which refuses some ports. */
async function get(
  url: string,
  tls: SecureContextOptions,
  timeoutMs: number,
): Promise<{ status: number; body: string }> {
  const signal = AbortSignal.timeout(timeoutMs);
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>();
  const take = (response: http.IncomingMessage) => {
    text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
  };
  const request = url.startsWith("https:")
    ? // The certificate need not name the address; the request carries no secret.
      https.get(url, { ...tls, agent: false, signal, rejectUnauthorized: false }, take)
    : http.get(url, { agent: false, signal }, take);
  request.once("error", (error) => reject(signal.aborted ? signal.reason : error));
  return await promise;
}

/** Resolves a host to an address to connect to: a server on loopback rejects requests for other host names. */
export async function connectAddress(host: string): Promise<string> {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (/^[0:]*::?0*$/.test(host)) return "::1";
  return await lookup(host).then(
    ({ address }) => address,
    () => host,
  );
}

/** Returns the checks that failed on a running server, by name. */
export function failingChecks({ checks }: Extract<ServerProbe, { kind: "server" }>) {
  return Object.entries(checks).filter(([, check]) => !check.ok);
}

function isNotListening(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "EADDRNOTAVAIL"].includes(code);
}

function reportFrom(
  body: string,
): Pick<Extract<ServerProbe, { kind: "server" }>, "ready" | "checks"> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || !("ready" in value) || !("checks" in value))
    return undefined;
  const { ready, checks } = value;
  if (typeof ready !== "boolean" || typeof checks !== "object" || checks === null) return undefined;
  return { ready, checks: checks as Readonly<Record<string, { ok: boolean; detail: string }>> };
}
