import { Code } from "@connectrpc/connect";
import type { ErrorReason } from "../src/memoryservice/v1/error_reason_pb.js";

/** Names of `memoryservice.v1.ErrorReason`. The comments in the contract say what to do about each. */
export type ErrorReasonName = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/** A field of a request that breaks its rule. */
export interface FieldViolation {
  /** Path of the field in the request, with the names of the contract: `items[3].content`. */
  readonly field: string;

  /** What is wrong and what is allowed. */
  readonly description: string;
}

/** Properties of a MemoryServiceError. */
export interface MemoryServiceErrorOptions {
  readonly code: Code;
  readonly reason?: ErrorReasonName | undefined;
  readonly violations?: readonly FieldViolation[] | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly requestId?: string | undefined;
  readonly cause?: unknown;
}

/** Error of a failed call. */
export class MemoryServiceError extends Error {
  override readonly name = "MemoryServiceError";

  /** Status code. It is Unavailable also if the connection failed or was lost. */
  readonly code: Code;

  /**
   * Reason for the failure: the property to branch on. It is undefined if the call did not reach the server, or if the
   * reason is newer than this package.
   */
  readonly reason: ErrorReasonName | undefined;

  /** Fields of the request that are invalid. Empty unless the request was the problem. */
  readonly violations: readonly FieldViolation[];

  /** Further facts about this error. The comment of the reason in the contract lists the keys. */
  readonly metadata: Readonly<Record<string, string>>;

  /** How long to wait before the next attempt, in milliseconds, if the server says that a retry may help. */
  readonly retryAfterMs: number | undefined;

  /** Id of the call in the server's log. It is undefined if no server responded. */
  readonly requestId: string | undefined;

  constructor(message: string, options: MemoryServiceErrorOptions) {
    super(message, { cause: options.cause });
    this.code = options.code;
    this.reason = options.reason;
    this.violations = options.violations ?? [];
    this.metadata = options.metadata ?? {};
    this.retryAfterMs = options.retryAfterMs;
    this.requestId = options.requestId;
  }
}

/**
 * Creates the error of a call that this side canceled.
 *
 * @param cause The reason with which the signal was aborted. A MemoryServiceError is returned as it is.
 */
export function canceledErrorFrom(cause: unknown): MemoryServiceError {
  if (cause instanceof MemoryServiceError) return cause;
  return new MemoryServiceError("the call was canceled", { code: Code.Canceled, reason: "CANCELED", cause });
}

/** Creates the error of a call on a client that is closed. */
export function createClosedError(): MemoryServiceError {
  return new MemoryServiceError("the client is closed", { code: Code.Canceled, reason: "CANCELED" });
}

/** Creates the error of a stream whose next message did not arrive in time. */
export function createDeadlineError(timeoutMs: number): MemoryServiceError {
  const message = `no message arrived within ${timeoutMs} ms`;
  return new MemoryServiceError(message, { code: Code.DeadlineExceeded, reason: "DEADLINE_EXCEEDED" });
}

/** Creates the error of a stream that ended too early. */
export function createIncompleteStreamError(): MemoryServiceError {
  return new MemoryServiceError("the stream ended before its summary", { code: Code.Unavailable });
}
