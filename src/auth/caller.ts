import type { Grants } from "./scopes.ts";

/** The identity and the permissions behind a call. */
export interface Caller extends Grants {
  /** Name in logs: `key:` and the name of the API key, or `jwt:` and the subject of the token. Empty if unknown. */
  readonly name: string;
}

/** The caller of a server without authentication, who may do everything. */
export const UNRESTRICTED: Caller = { name: "", may: () => true, metrics: true };

/** A caller without valid credentials on a server that requires them. */
export const UNAUTHENTICATED: Caller = { name: "", may: () => false, metrics: false };
