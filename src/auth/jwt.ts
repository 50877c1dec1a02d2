import { createHash, createPublicKey } from "node:crypto";
import {
  type CryptoKey,
  createLocalJWKSet,
  createRemoteJWKSet,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from "jose";
import { LRUCache } from "lru-cache";
import { ServiceError } from "../memory/model/errors.ts";
import type { Logger } from "../util/logger.ts";
import { truncateText } from "../util/truncate-text.ts";
import type { Caller } from "./caller.ts";
import { grantsFrom } from "./scopes.ts";

/** Asymmetric algorithms only: with a symmetric one, every server that verifies tokens could also issue them. */
const ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
];

/** Tolerated clock skew, in seconds. */
const CLOCK_TOLERANCE = 30;

/** Longer tokens are rejected without parsing. Headers over 16 KiB are rejected earlier. */
const MAX_TOKEN_LENGTH = 8_192;

/** Number of cached tokens. Verifying a signature takes at least 0.1 ms, a cache hit takes microseconds. */
const MAX_CACHED = 10_000;

/** Maximum time in the cache, so that tokens of a revoked signing key do not stay valid for hours. */
const CACHED_MS = 300_000;

/** Timeout of a request to the issuer, and the pause after a failed one. */
const FETCH_TIMEOUT_MS = 3_000;
const PAUSE_AFTER_FAILURE_MS = 1_000;

/** Minimum time between two logged failures, so that a long outage of the issuer does not flood the log. */
const WARNING_INTERVAL_MS = 60_000;

/** Maximum length of a subject in logs. */
const MAX_SUBJECT_LENGTH = 200;

/** Verifies tokens. */
export interface JwtVerifier {
  /** @throws ServiceError UNAUTHENTICATED, or AUTHENTICATION_UNAVAILABLE if the issuer's keys are unavailable. */
  verify(token: string): Caller | Promise<Caller>;
}

/** Finds the key that the header of a token names. */
export type KeyFinder = JWTVerifyGetKey;

/** Verifies tokens of one issuer for one audience with the current keys of the issuer. */
export function createJwtVerifier(options: {
  readonly issuer: string;
  readonly audience: string;
  readonly findKey: KeyFinder;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}): JwtVerifier {
  const { issuer, audience, findKey, now = Date.now } = options;
  const verified = new LRUCache<string, Caller>({ max: MAX_CACHED, ttlResolution: 0, perf: { now } });

  async function check(token: string, digest: string): Promise<Caller> {
    const payload = await payloadOf(token);
    const { sub, exp = 0 } = payload;
    // jose checks only that the claim exists.
    if (typeof sub !== "string") throw unauthenticated("the token is not valid", undefined);
    const caller = {
      name: `jwt:${truncateText(sub, MAX_SUBJECT_LENGTH)}`,
      ...grantsFrom(scopesOf(payload)),
    };
    // Within the clock tolerance an expired token is valid, and is not cached.
    const ttl = Math.floor(Math.min(exp * 1_000 - now(), CACHED_MS));
    if (ttl > 0) verified.set(digest, caller, { ttl });
    return caller;
  }

  async function payloadOf(token: string): Promise<JWTPayload> {
    try {
      return await verifySigned(token, findKey);
    } catch (error) {
      if (error instanceof ServiceError) throw error;
      if (error instanceof errors.JWTExpired) throw unauthenticated("the token has expired", error);
      throw unauthenticated("the token is not valid", error);
    }
  }

  async function verifySigned(token: string, key: KeyFinder | CryptoKey): Promise<JWTPayload> {
    const options = {
      issuer,
      audience,
      algorithms: ALGORITHMS,
      clockTolerance: CLOCK_TOLERANCE,
      requiredClaims: ["exp", "sub"],
      currentDate: new Date(now()),
    };
    try {
      const { payload } = await jwtVerify(token, key, options);
      return payload;
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
      return await verifyByOneOf(error, token);
    }
  }

  /** Tries several keys for a token that names none. An issuer that rotates its key publishes two. */
  async function verifyByOneOf(keys: AsyncIterable<CryptoKey>, token: string): Promise<JWTPayload> {
    for await (const key of keys) {
      try {
        return await verifySigned(token, key);
      } catch (error) {
        // Claims are checked after the signature, so any other error means that this key fits.
        if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }

  return {
    verify(token) {
      if (token.length > MAX_TOKEN_LENGTH) throw unauthenticated("the token is not valid", undefined);
      const digest = createHash("sha256").update(token).digest("base64");
      return verified.get(digest) ?? check(token, digest);
    },
  };
}

/**
 * Fetches the keys that an issuer publishes on first use and refreshes them every ten minutes. While the issuer is
 * unavailable, keys fetched in the last ten minutes stay valid, so a token with an invented key id, which triggers a
 * refresh, does not block other tokens.
 */
export function remoteKeys(url: string, logger: Logger): KeyFinder {
  const find = createRemoteJWKSet(new URL(url), { timeoutDuration: FETCH_TIMEOUT_MS });
  let pausedUntil = Number.NEGATIVE_INFINITY;
  let warnedAt = Number.NEGATIVE_INFINITY;

  function warn(error: unknown): void {
    if (performance.now() - warnedAt < WARNING_INTERVAL_MS) return;
    warnedAt = performance.now();
    logger.warn({ err: error }, "cannot fetch the signing keys of tokens from MEMORY_JWT_JWKS_URL");
  }

  async function findKnown(...[header, token]: Parameters<KeyFinder>) {
    const known = find.fresh ? find.jwks() : undefined;
    if (known === undefined) throw issuerUnavailable(undefined);
    try {
      return await createLocalJWKSet(known)(header, token);
    } catch (error) {
      if (error instanceof errors.JWKSMultipleMatchingKeys) throw error;
      // The key may be new, and unknown only because the issuer cannot be asked.
      throw issuerUnavailable(error);
    }
  }

  return async (header, token) => {
    if (performance.now() < pausedUntil) return await findKnown(header, token);
    try {
      return await find(header, token);
    } catch (error) {
      const { JWKSNoMatchingKey, JWKSMultipleMatchingKeys, JOSENotSupported } = errors;
      const tokenErrors = [JWKSNoMatchingKey, JWKSMultipleMatchingKeys, JOSENotSupported];
      if (tokenErrors.some((kind) => error instanceof kind)) throw error;
      pausedUntil = performance.now() + PAUSE_AFTER_FAILURE_MS;
      warn(error);
      throw issuerUnavailable(error);
    }
  };
}

/**
 * Parses keys from the text of a file: a public key in PEM, or a JSON Web Key Set.
 *
 * @throws Error if the text is neither.
 */
export function keysFrom(text: string): KeyFinder {
  if (text.includes("-----BEGIN ")) {
    if (!/-----BEGIN (RSA )?PUBLIC KEY-----|-----BEGIN CERTIFICATE-----/.test(text)) {
      throw new Error("the PEM file must contain a public key or a certificate");
    }
    const key = createPublicKey(text);
    return async () => key;
  }
  let keys: unknown;
  try {
    keys = JSON.parse(text);
  } catch {
    throw new Error("the file must contain a public key in PEM or a JSON Web Key Set");
  }
  return createLocalJWKSet(keys as Parameters<typeof createLocalJWKSet>[0]);
}

/**
 * Returns the scopes of a token. RFC 8693 and 9068 define `scope` as one string; some issuers use `scp`, a list or a
 * string.
 */
function scopesOf({ scope, scp }: JWTPayload): string[] {
  return [scope, scp].flatMap((claim) => {
    if (typeof claim === "string") return claim.split(" ");
    return Array.isArray(claim) ? claim.filter((one) => typeof one === "string") : [];
  });
}

function unauthenticated(message: string, cause: unknown): ServiceError {
  return new ServiceError("UNAUTHENTICATED", message, { cause });
}

function issuerUnavailable(cause: unknown): ServiceError {
  return new ServiceError("AUTHENTICATION_UNAVAILABLE", "the signing keys of tokens are unavailable", {
    retryAfterMs: PAUSE_AFTER_FAILURE_MS,
    cause,
  });
}
