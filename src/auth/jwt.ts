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

/** Asymmetric ones only: with a symmetric one, whoever can check a token can make one. */
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

/** How far clocks may be apart, in seconds. */
const CLOCK_TOLERANCE = 30;

/** Longer ones are not looked at; headers of more than 16 KiB do not arrive anyway. */
const MAX_TOKEN_LENGTH = 8_192;

/** Checked tokens that are remembered: checking a signature costs 0.1 ms and more, finding one again microseconds. */
const MAX_REMEMBERED = 10_000;

/** And for how long at most, so that a key which its issuer has withdrawn does not live for hours. */
const REMEMBERED_MS = 300_000;

/** How long an answer of the issuer is waited for, and how long it is left alone after a failure. */
const FETCH_TIMEOUT_MS = 3_000;
const PAUSE_AFTER_FAILURE_MS = 1_000;

/** An issuer that is away for long must not fill the log. */
const COMPLAINT_INTERVAL_MS = 60_000;

/** Subjects come from an issuer and go into logs. */
const MAX_SUBJECT_LENGTH = 200;

/** Checks tokens. */
export interface JwtVerifier {
  /** @throws ServiceError UNAUTHENTICATED; AUTHENTICATION_UNAVAILABLE if the issuer's keys cannot be had now. */
  verify(token: string): Caller | Promise<Caller>;
}

/** Finds the key that a token says it was signed with. */
export type KeyFinder = JWTVerifyGetKey;

/** Checks tokens of one issuer for one audience, by its keys as they are now. */
export function createJwtVerifier(options: {
  readonly issuer: string;
  readonly audience: string;
  readonly findKey: KeyFinder;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}): JwtVerifier {
  const { issuer, audience, findKey, now = Date.now } = options;
  const verified = new LRUCache<string, Caller>({ max: MAX_REMEMBERED, ttlResolution: 0, perf: { now } });

  async function check(token: string, digest: string): Promise<Caller> {
    const payload = await payloadOf(token);
    const { sub, exp = 0 } = payload;
    // jose looks only whether there is one.
    if (typeof sub !== "string") throw unauthenticated("the token is not valid", undefined);
    const caller = {
      name: `jwt:${truncateText(sub, MAX_SUBJECT_LENGTH)}`,
      ...grantsFrom(scopesOf(payload)),
    };
    // Within the clock tolerance an expired token is valid, and is not cached.
    const ttl = Math.floor(Math.min(exp * 1_000 - now(), REMEMBERED_MS));
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

  /** A token that names no key may be signed with any of these: while an issuer changes its key, there are two. */
  async function verifyByOneOf(keys: AsyncIterable<CryptoKey>, token: string): Promise<JWTPayload> {
    for await (const key of keys) {
      try {
        return await verifySigned(token, key);
      } catch (error) {
        // What is wrong with claims is told only of a signature that is right.
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
 * Keys that an issuer publishes, asked for when they are needed and every ten minutes. While it is away those of the last
 * ten minutes are good: a token with a key of its own invention, which makes them be asked for, stops no other.
 */
export function remoteKeys(url: string, logger: Logger): KeyFinder {
  const find = createRemoteJWKSet(new URL(url), { timeoutDuration: FETCH_TIMEOUT_MS });
  let pausedUntil = Number.NEGATIVE_INFINITY;
  let complainedAt = Number.NEGATIVE_INFINITY;

  function complain(error: unknown): void {
    if (performance.now() - complainedAt < COMPLAINT_INTERVAL_MS) return;
    complainedAt = performance.now();
    logger.warn(
      { err: error },
      "the keys that tokens are checked with cannot be had from MEMORY_JWT_JWKS_URL",
    );
  }

  async function findKnown(...[header, token]: Parameters<KeyFinder>) {
    const known = find.fresh ? find.jwks() : undefined;
    if (known === undefined) throw issuerAway(undefined);
    try {
      return await createLocalJWKSet(known)(header, token);
    } catch (error) {
      if (error instanceof errors.JWKSMultipleMatchingKeys) throw error;
      // It may be a new one.
      throw issuerAway(error);
    }
  }

  return async (header, token) => {
    if (performance.now() < pausedUntil) return await findKnown(header, token);
    try {
      return await find(header, token);
    } catch (error) {
      const { JWKSNoMatchingKey, JWKSMultipleMatchingKeys, JOSENotSupported } = errors;
      const tokensFault = [JWKSNoMatchingKey, JWKSMultipleMatchingKeys, JOSENotSupported];
      if (tokensFault.some((kind) => error instanceof kind)) throw error;
      pausedUntil = performance.now() + PAUSE_AFTER_FAILURE_MS;
      complain(error);
      throw issuerAway(error);
    }
  };
}

/**
 * Keys of a file: a public key in PEM, or a JSON Web Key Set.
 *
 * @throws Error if it is neither.
 */
export function keysFrom(text: string): KeyFinder {
  if (text.includes("-----BEGIN ")) {
    if (!/-----BEGIN (RSA )?PUBLIC KEY-----|-----BEGIN CERTIFICATE-----/.test(text)) {
      throw new Error("it must be a public key, it is another kind of PEM");
    }
    const key = createPublicKey(text);
    return async () => key;
  }
  let keys: unknown;
  try {
    keys = JSON.parse(text);
  } catch {
    throw new Error("it is neither a public key in PEM nor a JSON Web Key Set");
  }
  return createLocalJWKSet(keys as Parameters<typeof createLocalJWKSet>[0]);
}

/** RFC 8693 and 9068 have one text in `scope`; some issuers have a list or a text in `scp`. */
function scopesOf({ scope, scp }: JWTPayload): string[] {
  return [scope, scp].flatMap((claim) => {
    if (typeof claim === "string") return claim.split(" ");
    return Array.isArray(claim) ? claim.filter((one) => typeof one === "string") : [];
  });
}

function unauthenticated(message: string, cause: unknown): ServiceError {
  return new ServiceError("UNAUTHENTICATED", message, { cause });
}

function issuerAway(cause: unknown): ServiceError {
  return new ServiceError("AUTHENTICATION_UNAVAILABLE", "the keys that tokens are checked with are away", {
    retryAfterMs: PAUSE_AFTER_FAILURE_MS,
    cause,
  });
}
