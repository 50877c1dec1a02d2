/** Access to a domain. Each level includes the ones before it, because writes return stored memories. */
export type AccessLevel = "read" | "write" | "admin";

/** The permissions of a caller. */
export interface Grants {
  /** Returns whether the caller has the access level in the domain of exactly this name. */
  may(level: AccessLevel, domain: string): boolean;
  /** Whether the caller may read `/metrics`. */
  readonly metrics: boolean;
}

/** The syntax of scopes, for messages. */
export const SCOPE_GRAMMAR =
  "read:DOMAIN, write:DOMAIN, admin:DOMAIN or metrics, where DOMAIN is a name, a prefix such as acme-* or acme_*, or *";

const levels: readonly AccessLevel[] = ["read", "write", "admin"];

/**
 * The syntax of scopes for domains. `acme-*` matches every name that starts with `acme-` and is longer, and therefore
 * neither `acme` nor `acmex`. A star follows a separator or stands alone.
 */
const scopePattern = /^(read|write|admin):(\*|[a-z][a-z0-9_-]{0,39}|[a-z][a-z0-9_-]{0,37}[_-]\*)$/;

/** Returns whether the scope is valid. */
export function isScope(scope: string): boolean {
  return scope === "metrics" || scopePattern.test(scope);
}

/**
 * Returns the combined permissions of scopes. Unknown scopes grant nothing; a token may carry scopes of other services.
 */
export function grantsFrom(scopes: readonly string[]): Grants {
  const granted = levels.map(() => ({ all: false, names: new Set<string>(), prefixes: new Set<string>() }));
  for (const scope of scopes) {
    const [, level, domain] = scopePattern.exec(scope) ?? [];
    if (level === undefined || domain === undefined) continue;
    const upTo = levels.indexOf(level as AccessLevel);
    for (const grant of granted.slice(0, upTo + 1)) {
      if (domain === "*") grant.all = true;
      else if (domain.endsWith("*")) grant.prefixes.add(domain.slice(0, -1));
      else grant.names.add(domain);
    }
  }
  return {
    may(level, domain) {
      const grant = granted[levels.indexOf(level)];
      if (grant === undefined) return false;
      if (grant.all || grant.names.has(domain)) return true;
      for (const prefix of grant.prefixes) {
        if (domain.length > prefix.length && domain.startsWith(prefix)) return true;
      }
      return false;
    },
    metrics: scopes.includes("metrics"),
  };
}
