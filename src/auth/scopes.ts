/** What may be done in a domain; each includes those before it, because what writes answers with what is there. */
export type AccessLevel = "read" | "write" | "admin";

/** What somebody may do. */
export interface Grants {
  /** True if the level is granted in the domain of exactly this name. */
  may(level: AccessLevel, domain: string): boolean;
  /** Whether `/metrics` may be read. */
  readonly metrics: boolean;
}

/** What scopes look like, in words. */
export const SCOPE_GRAMMAR =
  "read:DOMAIN, write:DOMAIN, admin:DOMAIN or metrics, where DOMAIN is a name, or a beginning with - or _ and *, as acme-*, or *";

const levels: readonly AccessLevel[] = ["read", "write", "admin"];

/**
 * `acme-*` stands for every name that begins with `acme-` and goes on, and so neither for `acme` nor for `acmex`: a star
 * comes after a separator or stands alone.
 */
const scopePattern = /^(read|write|admin):(\*|[a-z][a-z0-9_-]{0,39}|[a-z][a-z0-9_-]{0,37}[_-]\*)$/;

/** True if `grantsFrom` understands the scope. */
export function isScope(scope: string): boolean {
  return scope === "metrics" || scopePattern.test(scope);
}

/** What scopes grant together. Those that are none (an issuer of tokens has scopes of others, too) grant nothing. */
export function grantsFrom(scopes: readonly string[]): Grants {
  const granted = levels.map(() => ({ all: false, names: new Set<string>(), beginnings: new Set<string>() }));
  for (const scope of scopes) {
    const [, level, domain] = scopePattern.exec(scope) ?? [];
    if (level === undefined || domain === undefined) continue;
    const upTo = levels.indexOf(level as AccessLevel);
    for (const grant of granted.slice(0, upTo + 1)) {
      if (domain === "*") grant.all = true;
      else if (domain.endsWith("*")) grant.beginnings.add(domain.slice(0, -1));
      else grant.names.add(domain);
    }
  }
  return {
    may(level, domain) {
      const grant = granted[levels.indexOf(level)];
      if (grant === undefined) return false;
      if (grant.all || grant.names.has(domain)) return true;
      for (const beginning of grant.beginnings) {
        if (domain.length > beginning.length && domain.startsWith(beginning)) return true;
      }
      return false;
    },
    metrics: scopes.includes("metrics"),
  };
}
