/** What a use case knows of the call it serves. */
export interface CallContext {
  readonly signal: AbortSignal;
  /** Milliseconds left until the caller's deadline; undefined: none. */
  readonly remainingMs: number | undefined;
}
