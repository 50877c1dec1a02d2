/** The context of a call. */
export interface CallContext {
  /** Aborts when the caller leaves, the deadline passes or the server shuts down. */
  readonly signal: AbortSignal;
  /** Milliseconds until the caller's deadline; undefined if it has none. */
  readonly remainingMs: number | undefined;
}
