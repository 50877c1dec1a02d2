import { ServiceError } from "../memory/model/errors.ts";
import { isLoopbackHost } from "../util/loopback.ts";

/** Who may be asked under which name, and by which web pages. */
export interface AccessRules {
  /** True if the server listens on loopback only; beyond it the Host is not looked at. */
  readonly boundToLoopback: boolean;
  /** Names under which a server on loopback may be asked too: `memory.test`, or `memory.test:8080` for that port only. */
  readonly allowedHosts: readonly string[];
  /** Origins of web pages that may call: `https://app.example`, exactly as browsers send them. */
  readonly allowedOrigins: readonly string[];
}

export type AccessVerdict =
  | { readonly kind: "allowed"; readonly origin: string | undefined }
  | { readonly kind: "malformed" }
  | { readonly kind: "host-refused"; readonly host: string }
  | { readonly kind: "origin-refused"; readonly origin: string };

export type Refusal = Extract<AccessVerdict, { kind: "host-refused" | "origin-refused" }>;

/**
 * Decides whether a request may be served. A web page elsewhere must not reach a server on loopback, neither
 * with a name that resolves to 127.0.0.1 (DNS rebinding) nor across origins.
 *
 * @param authority `:authority` or `Host` of the request.
 * @param origin `Origin` of the request; only browsers send it.
 */
export function checkAccess(
  rules: AccessRules,
  authority: string | undefined,
  origin: string | undefined,
): AccessVerdict {
  const host = authority === undefined ? undefined : parseAuthority(authority);
  if (host === undefined) return { kind: "malformed" };
  if (rules.boundToLoopback && !isLoopbackHost(host.name) && !isListed(host, rules.allowedHosts)) {
    return { kind: "host-refused", host: host.name };
  }
  if (origin !== undefined && !rules.allowedOrigins.some((allowed) => sameText(allowed, origin))) {
    return { kind: "origin-refused", origin };
  }
  return { kind: "allowed", origin };
}

/** What a refused caller is told. */
export function refusalError(refusal: Refusal): ServiceError {
  return refusal.kind === "host-refused"
    ? new ServiceError("HOST_NOT_ALLOWED", `host "${refusal.host}" is not allowed`, {
        metadata: { host: refusal.host },
      })
    : new ServiceError("HOST_NOT_ALLOWED", `origin "${refusal.origin}" is not allowed`, {
        metadata: { origin: refusal.origin },
      });
}

interface Authority {
  readonly name: string;
  readonly port: string;
}

const authorityPattern = /^(\[[0-9a-f:.]+\]|[a-z0-9._~%-]+)(?::(\d{1,5}))?$/i;

function parseAuthority(authority: string): Authority | undefined {
  const match = authorityPattern.exec(authority);
  if (match?.[1] === undefined || !URL.canParse(`http://${authority}`)) return undefined;
  return { name: match[1].toLowerCase(), port: match[2] ?? "" };
}

function isListed(host: Authority, allowedHosts: readonly string[]): boolean {
  return allowedHosts.some(
    (allowed) => sameText(allowed, host.name) || sameText(allowed, `${host.name}:${host.port}`),
  );
}

function sameText(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}
