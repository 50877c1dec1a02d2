import { DOMAIN_NAME } from "../../../memory/model/limits.ts";

/** The quoted names of a domain's tables: the one place where a name becomes SQL. */
export interface DomainTables {
  readonly memories: string;
  readonly chunks: string;
  /** The index of pg_textsearch, where there is one. */
  readonly bm25Index: string;
  /** Its name as a part of a text in quotes. */
  readonly bm25IndexName: string;
}

/** @throws Error if the name breaks the rule: whoever calls has validated it before. */
export function domainTables(domain: string): DomainTables {
  if (!DOMAIN_NAME.test(domain)) throw new Error(`not a domain name: ${JSON.stringify(domain)}`);
  const bm25IndexName = `${domain}_memories_bm25_idx`;
  return {
    memories: `"${domain}_memories"`,
    chunks: `"${domain}_chunks"`,
    bm25Index: `"${bm25IndexName}"`,
    bm25IndexName,
  };
}

/** The condition that a row of `memories` (under this alias) has not expired. */
export function isAlive(alias: string): string {
  return `(${alias}.expires_at is null or ${alias}.expires_at > now())`;
}
