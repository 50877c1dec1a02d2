import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Caller } from "./caller.ts";
import { grantsFrom, isScope, SCOPE_GRAMMAR } from "./scopes.ts";

/** A stored API key. The key itself cannot be recovered from it. */
export interface ApiKey {
  readonly name: string;
  /** SHA-256 of the key. */
  readonly hash: Buffer;
  readonly caller: Caller;
  /** Expiry in milliseconds since 1970. Undefined if the key does not expire. */
  readonly expires: number | undefined;
}

/** Prefix by which secret scanners recognize a leaked key. */
const PREFIX = "msk_";
const KEY_BYTES = 32;
const HASH_PREFIX = "sha256:";
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;

/** Maximum number of keys. Every call is compared with all of them; 1,000 comparisons take about 0.1 ms. */
const MAX_KEYS = 1_000;

const fieldNames: readonly string[] = ["name", "hash", "scopes", "expires"];

/**
 * Parses keys from JSON lines as `createApiKey` writes them. Skips empty lines and lines that start with #.
 *
 * @throws Error that names the invalid line but never quotes it.
 */
export function apiKeysFrom(text: string): ApiKey[] {
  const keys: ApiKey[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const problem = (what: string) => new Error(`line ${index + 1} ${what}`);
    const key = apiKeyFrom(line, problem);
    if (keys.some(({ name }) => name === key.name)) throw problem("has the name of an earlier line");
    if (keys.some(({ hash }) => hash.equals(key.hash))) throw problem("has the hash of an earlier line");
    keys.push(key);
  }
  if (keys.length > MAX_KEYS)
    throw new Error(`there are ${keys.length} keys, at most ${MAX_KEYS} are allowed`);
  return keys;
}

function apiKeyFrom(line: string, problem: (what: string) => Error): ApiKey {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw problem("is not a JSON object");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw problem("is not a JSON object");
  const unknown = Object.keys(value).find((field) => !fieldNames.includes(field));
  if (unknown !== undefined) throw problem("must have no other fields than name, hash, scopes and expires");
  const { name, hash, scopes, expires } = value as Record<string, unknown>;
  if (typeof name !== "string" || !namePattern.test(name)) {
    throw problem("must have a name of 1 to 64 letters, digits, ., _, @ and -");
  }
  if (typeof hash !== "string" || !/^sha256:[0-9a-f]{64}$/.test(hash)) {
    throw problem('must have a hash of "sha256:" and 64 lower-case hexadecimal digits');
  }
  if (!Array.isArray(scopes) || !scopes.every((scope) => typeof scope === "string" && isScope(scope))) {
    throw problem(`must have a list of scopes, each ${SCOPE_GRAMMAR}`);
  }
  const time = expires === undefined ? undefined : expiryFrom(expires);
  if (Number.isNaN(time))
    throw problem("must have a time such as 2030-01-31T00:00:00Z in expires, if present");
  return {
    name,
    hash: Buffer.from(hash.slice(HASH_PREFIX.length), "hex"),
    caller: { name: `key:${name}`, ...grantsFrom(scopes) },
    expires: time,
  };
}

function expiryFrom(expires: unknown): number {
  const complete = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;
  return typeof expires === "string" && complete.test(expires) ? Date.parse(expires) : Number.NaN;
}

/**
 * Returns the key that matches the presented one, even if it has expired, or undefined if none does.
 *
 * Compares with every key in constant time. SHA-256 without salt and stretching is enough, because a key consists of
 * 256 random bits and cannot be guessed. Slow hashes protect passwords that people choose; here they would add tens of
 * milliseconds to every call.
 */
export function findApiKey(keys: readonly ApiKey[], presented: string): ApiKey | undefined {
  const hash = createHash("sha256").update(presented).digest();
  let found: ApiKey | undefined;
  for (const key of keys) if (timingSafeEqual(key.hash, hash)) found = key;
  return found;
}

/**
 * Generates a key, which cannot be shown again, and the line for the key file of the server.
 *
 * @throws Error if the name or a scope is invalid.
 */
export function createApiKey(options: {
  readonly name: string;
  readonly scopes: readonly string[];
  readonly expires?: Date | undefined;
}): { readonly key: string; readonly line: string } {
  const { name, scopes, expires } = options;
  const key = `${PREFIX}${randomBytes(KEY_BYTES).toString("base64url")}`;
  const line = JSON.stringify({
    name,
    hash: `${HASH_PREFIX}${createHash("sha256").update(key).digest("hex")}`,
    scopes,
    ...(expires === undefined ? {} : { expires: expires.toISOString() }),
  });
  apiKeyFrom(line, (what) => new Error(`the key ${what}`));
  return { key, line };
}
