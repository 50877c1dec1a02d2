import type { Grants } from "./scopes.ts";

/** Who makes a call. */
export interface Caller extends Grants {
  /** For logs: `key:` and the name of the API key, or `jwt:` and the subject of the token; "" for who is not known. */
  readonly name: string;
}

/** Whoever calls a server without authentication: may do everything. */
export const ANYBODY: Caller = { name: "", may: () => true, metrics: true };

/** Who has shown no credentials where they are needed. */
export const NOBODY: Caller = { name: "", may: () => false, metrics: false };
