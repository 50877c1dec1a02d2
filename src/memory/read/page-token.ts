import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { ServiceError } from "../model/errors.ts";

/** The parts of a request that must be the same for the next page. */
export type PageQuery = readonly unknown[];

/** The position at which a page ended. */
export type PagePosition = readonly string[];

/**
 * Creates and reads page tokens. A token contains a position and a MAC that binds it to its query, so that clients
 * cannot forge it. It is valid on every server that shares the key.
 */
export interface PageTokens {
  seal(query: PageQuery, position: PagePosition): Promise<string>;
  /** Returns the position. @throws ServiceError INVALID_PAGE_TOKEN unless `seal` created the token for this query. */
  open(query: PageQuery, token: string, field?: string): Promise<PagePosition>;
}

/** Bytes of the SHA-256 HMAC in a token. 128 bits cannot be guessed. */
const MAC_BYTES = 16;

/** Longer tokens are rejected without decoding them. */
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
      // Decoding ignores invalid characters.
      if (bytes.length <= MAC_BYTES || bytes.toString("base64url") !== token) throw invalid(field);
      const body = bytes.subarray(MAC_BYTES);
      if (!timingSafeEqual(bytes.subarray(0, MAC_BYTES), await macOf(query, body))) throw invalid(field);
      return JSON.parse(body.toString());
    },
  };
}

/** Returns a digest that represents a large value, such as a filter of a megabyte, in a query with many tokens. */
export function digestOf(value: unknown): string {
  return createHash("sha256").update(canonicalJson(value)).digest("base64url");
}

function invalid(field: string): ServiceError {
  const description = "is damaged, or belongs to another domain, filter or order; start again without it";
  return new ServiceError("INVALID_PAGE_TOKEN", `${field}: ${description}`, {
    violations: [{ field, description }],
  });
}

/** Returns the same text for equal values, regardless of the order of their keys. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner === "bigint") return String(inner);
    if (typeof inner !== "object" || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
