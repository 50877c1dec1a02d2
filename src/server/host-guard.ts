import { ServiceError } from "../memory/model/errors.ts";
import { isLoopbackHost } from "../util/loopback.ts";

/** The host names under which the server may be called, and the web pages that may call it. */
export interface AccessRules {
  /** Whether the server listens on loopback only. Otherwise it does not check the host. */
  readonly boundToLoopback: boolean;
  /** Further host names that a server on loopback accepts: `memory.test`, or `memory.test:8080` for this port only. */
  readonly allowedHosts: readonly string[];
  /** Origins of the web pages that may call the server, exactly as browsers send them, such as `https://app.example`. */
  readonly allowedOrigins: readonly string[];
}

export type AccessVerdict =
  | { readonly kind: "allowed"; readonly origin: string | undefined }
  | { readonly kind: "malformed" }
  | { readonly kind: "host-refused"; readonly host: string }
  | { readonly kind: "origin-refused"; readonly origin: string };

export type Refusal = Extract<AccessVerdict, { kind: "host-refused" | "origin-refused" }>;

/**
 * Decides whether to serve a request. A foreign web page must not reach a server on loopback, neither with a host name that
 * resolves to 127.0.0.1 (DNS rebinding) nor across origins.
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

/** Returns the error for a refused caller. */
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
