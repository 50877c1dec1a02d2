import { ServiceError } from "../memory/model/errors.ts";
import { messageOf } from "../util/error-message.ts";
import type { Logger } from "../util/logger.ts";
import { isLoopbackHost } from "../util/loopback.ts";
import { StartupError } from "../util/startup-error.ts";
import { apiKeysFrom, findApiKey } from "./api-keys.ts";
import type { Caller } from "./caller.ts";
import { createJwtVerifier, type JwtVerifier, type KeyFinder, keysFrom, remoteKeys } from "./jwt.ts";
import { type AuthSettings, needsCredentials } from "./settings.ts";
import { watchFiles } from "./watched-files.ts";

/** Identifies the caller of a call. */
export interface Authenticator {
  /**
   * Returns the caller that the credentials belong to.
   *
   * @param authorization The `authorization` header: `Bearer` and an API key or a token.
   * @throws ServiceError UNAUTHENTICATED, or AUTHENTICATION_UNAVAILABLE if the issuer's keys are unavailable.
   */
  authenticate(authorization: string | undefined): Caller | Promise<Caller>;
  close(): void;
}

/**
 * Creates the authenticator that the settings describe, or returns undefined if they require no credentials. Reloads
 * key files when they change.
 *
 * @throws StartupError if the keys are unreadable or invalid.
 */
export async function createAuthenticator(
  settings: AuthSettings,
  logger: Logger,
): Promise<Authenticator | undefined> {
  if (!needsCredentials(settings)) return undefined;
  const closers: (() => void)[] = [];
  const keys = await readApiKeys(settings, logger, closers);
  const jwt = await readJwt(settings, logger, closers);
  return {
    authenticate(authorization) {
      const credential = credentialFrom(authorization);
      // An API key contains no dot; a token contains two.
      if (credential.includes(".") && jwt !== undefined) return jwt.verify(credential);
      const key = findApiKey(keys(), credential);
      if (key === undefined) throw unauthenticated("the credentials are not valid");
      if (key.expires !== undefined && key.expires <= Date.now()) {
        throw unauthenticated("the API key has expired");
      }
      return key.caller;
    },
    close() {
      for (const close of closers) close();
    },
  };
}

async function readApiKeys(settings: AuthSettings, logger: Logger, closers: (() => void)[]) {
  const { MEMORY_API_KEYS: text = "", MEMORY_API_KEYS_FILE: path } = settings;
  const what = "the API keys";
  if (path === undefined) {
    try {
      const keys = apiKeysFrom(text);
      return () => keys;
    } catch (error) {
      const problem = messageOf(error);
      throw new StartupError(`${what} in MEMORY_API_KEYS cannot be used: ${problem}`, { cause: error });
    }
  }
  const watched = await watchFiles({
    paths: [path],
    what,
    parse: ([contents]) => apiKeysFrom(String(contents)),
    logger,
  });
  closers.push(() => watched.close());
  return () => watched.current();
}

async function readJwt(
  settings: AuthSettings,
  logger: Logger,
  closers: (() => void)[],
): Promise<JwtVerifier | undefined> {
  const { MEMORY_JWT_ISSUER: issuer, MEMORY_JWT_AUDIENCE: audience } = settings;
  const { MEMORY_JWT_JWKS_URL: url, MEMORY_JWT_KEY_FILE: path } = settings;
  if (issuer === undefined || audience === undefined) return undefined;
  if (url !== undefined) {
    warnAboutPlainText(url, logger);
    return createJwtVerifier({ issuer, audience, findKey: remoteKeys(url, logger) });
  }
  if (path === undefined) return undefined;
  const create = (findKey: KeyFinder) => createJwtVerifier({ issuer, audience, findKey });
  const watched = await watchFiles({
    paths: [path],
    what: "the signing keys of tokens",
    // A new verifier has an empty cache, so tokens signed with the old key are rejected.
    parse: ([contents]) => create(keysFrom(String(contents))),
    logger,
  });
  closers.push(() => watched.close());
  return { verify: (token) => watched.current().verify(token) };
}

function warnAboutPlainText(url: string, logger: Logger): void {
  const { protocol, hostname } = new URL(url);
  if (protocol === "https:" || isLoopbackHost(hostname)) return;
  logger.warn(
    {},
    "the signing keys of tokens are fetched over plain HTTP: an attacker who replaces them in transit gains full access; set MEMORY_JWT_JWKS_URL to an https URL",
  );
}

/** @throws ServiceError UNAUTHENTICATED */
function credentialFrom(authorization: string | undefined): string {
  if (authorization === undefined) {
    throw unauthenticated("the call has no credentials; send the header authorization: Bearer KEY");
  }
  const credential = /^bearer +([\x21-\x7e]+) *$/i.exec(authorization)?.[1];
  if (credential === undefined) throw unauthenticated("the credentials are not valid");
  return credential;
}

function unauthenticated(message: string): ServiceError {
  return new ServiceError("UNAUTHENTICATED", message);
}
