import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Caller } from "./caller.ts";
import { grantsFrom, isScope, SCOPE_GRAMMAR } from "./scopes.ts";

/** An API key as it is kept: what it was made of cannot be had back. */
export interface ApiKey {
  readonly name: string;
  /** SHA-256 of the key. */
  readonly hash: Buffer;
  readonly caller: Caller;
  /** Milliseconds since 1970; undefined: it does not expire. */
  readonly expires: number | undefined;
}

/** A key says what it is, so that tools which look for leaked secrets find it. */
const PREFIX = "msk_";
const KEY_BYTES = 32;
const HASH_PREFIX = "sha256:";
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;

/** More than these would make a comparison with all of them noticeable: 1,000 take about 0.1 ms. */
const MAX_KEYS = 1_000;

const fieldNames: readonly string[] = ["name", "hash", "scopes", "expires"];

/**
 * Reads keys from a text of JSON lines, each as `createApiKey` writes it; empty lines and lines that begin with # are left
 * out.
 *
 * @throws Error that says which line is wrong, and never shows what stands in it.
 */
export function apiKeysFrom(text: string): ApiKey[] {
  const keys: ApiKey[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const problem = (what: string) => new Error(`line ${index + 1} ${what}`);
    const key = apiKeyFrom(line, problem);
    if (keys.some(({ name }) => name === key.name)) throw problem("has a name that a line before it has");
    if (keys.some(({ hash }) => hash.equals(key.hash))) throw problem("has the hash of a line before it");
    keys.push(key);
  }
  if (keys.length > MAX_KEYS) throw new Error(`there are ${keys.length} keys, more than ${MAX_KEYS}`);
  return keys;
}

function apiKeyFrom(line: string, problem: (what: string) => Error): ApiKey {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw problem("is no JSON object");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw problem("is no JSON object");
  const unknown = Object.keys(value).find((field) => !fieldNames.includes(field));
  if (unknown !== undefined) throw problem("has a field that is not name, hash, scopes or expires");
  const { name, hash, scopes, expires } = value as Record<string, unknown>;
  if (typeof name !== "string" || !namePattern.test(name)) {
    throw problem("must have a name of 1 to 64 letters, digits, ., _, @ and -");
  }
  if (typeof hash !== "string" || !/^sha256:[0-9a-f]{64}$/.test(hash)) {
    throw problem('must have a hash, "sha256:" and 64 digits of lower-case hexadecimal');
  }
  if (!Array.isArray(scopes) || !scopes.every((scope) => typeof scope === "string" && isScope(scope))) {
    throw problem(`must have scopes, a list of ${SCOPE_GRAMMAR}`);
  }
  const time = expires === undefined ? undefined : expiryFrom(expires);
  if (Number.isNaN(time)) throw problem("must have a time as 2030-01-31T00:00:00Z in expires, if any");
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
 * The key that was presented, expired or not; undefined if it is none of them.
 *
 * Compares with all of them, in a time that tells nothing. SHA-256 without salt and stretching is enough: the keys are 256
 * random bits, which nobody can guess however fast a guess is; slow hashes are for passwords that people choose, and
 * would make every call cost tens of milliseconds.
 */
export function findApiKey(keys: readonly ApiKey[], presented: string): ApiKey | undefined {
  const hash = createHash("sha256").update(presented).digest();
  let found: ApiKey | undefined;
  for (const key of keys) if (timingSafeEqual(key.hash, hash)) found = key;
  return found;
}

/**
 * Makes a key. It cannot be had again; the line is what a server has to be given.
 *
 * @throws Error if the name or a scope is none.
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
