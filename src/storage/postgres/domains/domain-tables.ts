import { DOMAIN_NAME } from "../../../memory/model/limits.ts";

/** The quoted names of a domain's tables. Only this file converts a domain name to SQL. */
export interface DomainTables {
  readonly memories: string;
  readonly chunks: string;
  /** The index of pg_textsearch, which may not exist. */
  readonly bm25Index: string;
  /** Its name without quotes. */
  readonly bm25IndexName: string;
}

/** Returns the tables of a domain. @throws Error if the name is invalid, which callers have to check. */
export function domainTables(domain: string): DomainTables {
  if (!DOMAIN_NAME.test(domain)) throw new Error(`invalid domain name ${JSON.stringify(domain)}`);
  const bm25IndexName = `${domain}_memories_bm25_idx`;
  return {
    memories: `"${domain}_memories"`,
    chunks: `"${domain}_chunks"`,
    bm25Index: `"${bm25IndexName}"`,
    bm25IndexName,
  };
}

/** Returns the condition that a row of `memories`, under this alias, has not expired. */
export function isAlive(alias: string): string {
  return `(${alias}.expires_at is null or ${alias}.expires_at > now())`;
}
