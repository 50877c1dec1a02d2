import { lookup } from "node:dns/promises";
import { hostAndPort } from "./addresses.ts";

/** What was found where a server should be. */
export type ServerAnswer =
  /** A server of this program. */
  | {
      readonly kind: "server";
      readonly url: string;
      readonly ready: boolean;
      readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly detail: string }>>;
    }
  /** Nobody listens. */
  | { readonly kind: "absent"; readonly url: string }
  /** Something listens that is not this program, or does not answer in time. */
  | { readonly kind: "stranger"; readonly url: string; readonly said: string };

/** Asks `/readyz` of the server that listens with these settings; for an address of everywhere, on loopback. */
export async function askServer(host: string, port: number, timeoutMs: number): Promise<ServerAnswer> {
  const url = `http://${hostAndPort(await reachable(host), port)}`;
  let response: Response;
  let body: string;
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    response = await fetch(`${url}/readyz`, { redirect: "manual", signal });
    body = await response.text();
  } catch (error) {
    if (isRefusal(error)) return { kind: "absent", url };
    return { kind: "stranger", url, said: `no answer within ${timeoutMs / 1000} s` };
  }
  const report = reportFrom(body);
  if (report === undefined) return { kind: "stranger", url, said: `status ${response.status} for /readyz` };
  return { kind: "server", url, ...report };
}

/** An address and not a name: a server on loopback is only answered under names of loopback. */
async function reachable(host: string): Promise<string> {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (/^[0:]*::?0*$/.test(host)) return "::1";
  return await lookup(host).then(
    ({ address }) => address,
    () => host,
  );
}

function isRefusal(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    if ("code" in at && typeof at.code === "string") {
      return ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "EADDRNOTAVAIL"].includes(at.code);
    }
  }
  return false;
}

function reportFrom(
  body: string,
): Pick<Extract<ServerAnswer, { kind: "server" }>, "ready" | "checks"> | undefined {
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
