import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { ServiceError } from "../model/errors.ts";

/** What a page token belongs to: everything of the request that must be the same for the next page. */
export type PageQuery = readonly unknown[];

/** Where a page ended. */
export type PagePosition = readonly string[];

/**
 * Page tokens that nobody else can make, good on every server that shares the key. A token says where to go on, and is
 * bound to its query without containing it.
 */
export interface PageTokens {
  seal(query: PageQuery, position: PagePosition): Promise<string>;
  /** @throws ServiceError INVALID_PAGE_TOKEN for everything that `seal` did not make of this query. */
  open(query: PageQuery, token: string, field?: string): Promise<PagePosition>;
}

/** Bytes of the SHA-256 HMAC that a token carries: 128 bits cannot be guessed. */
const MAC_BYTES = 16;

/** Longer ones are not looked at. */
const MAX_TOKEN_LENGTH = 1_024;

export function createPageTokens(readKey: () => Promise<Uint8Array>): PageTokens {
  const macOf = async (query: PageQuery, position: Uint8Array) =>
    createHmac("sha256", await readKey())
      .update(canonicalJson(query))
      .update("\0")
      .update(position)
      .digest()
      .subarray(0, MAC_BYTES);

  return {
    async seal(query, position) {
      const body = Buffer.from(JSON.stringify(position));
      return Buffer.concat([await macOf(query, body), body]).toString("base64url");
    },

    async open(query, token, field = "page_token") {
      if (token.length > MAX_TOKEN_LENGTH) throw invalid(field);
      const bytes = Buffer.from(token, "base64url");
      // Decoding skips what is no base64.
      if (bytes.length <= MAC_BYTES || bytes.toString("base64url") !== token) throw invalid(field);
      const body = bytes.subarray(MAC_BYTES);
      if (!timingSafeEqual(bytes.subarray(0, MAC_BYTES), await macOf(query, body))) throw invalid(field);
      return JSON.parse(body.toString());
    },
  };
}

/** Stands for a value in queries of which many tokens are made: a filter may have a megabyte. */
export function digestOf(value: unknown): string {
  return createHash("sha256").update(canonicalJson(value)).digest("base64url");
}

function invalid(field: string): ServiceError {
  const description = "is damaged, or belongs to another domain, filter or order: start again without it";
  return new ServiceError("INVALID_PAGE_TOKEN", `${field}: ${description}`, {
    violations: [{ field, description }],
  });
}

/** Equal values give equal texts, whatever the order of their keys. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner === "bigint") return String(inner);
    if (typeof inner !== "object" || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
