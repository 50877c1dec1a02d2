import { DOMAIN_NAME } from "../../memory/limits.ts";

/** The quoted names of a domain's tables: the one place where a name becomes SQL. */
export interface DomainTables {
  readonly memories: string;
  readonly chunks: string;
}

/** @throws Error if the name breaks the rule: whoever calls has validated it before. */
export function domainTables(domain: string): DomainTables {
  if (!DOMAIN_NAME.test(domain)) throw new Error(`not a domain name: ${JSON.stringify(domain)}`);
  return { memories: `"${domain}_memories"`, chunks: `"${domain}_chunks"` };
}

/** The condition that a row of `memories` (under this alias) has not expired. */
export function isAlive(alias: string): string {
  return `(${alias}.expires_at is null or ${alias}.expires_at > now())`;
}
