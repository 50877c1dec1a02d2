import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "../src/memoryservice/v1/error_reason_pb.js";
import { readErrorDetails } from "./error-details.js";

/** @import { ErrorReasonName, MemoryServiceErrorOptions } from "./index.js" */

/** @type {typeof import("./index.js").MemoryServiceError} */
export const MemoryServiceError = class MemoryServiceError extends Error {
  /**
   * @param {string} message
   * @param {MemoryServiceErrorOptions} options
   */
  constructor(message, options) {
    super(message, { cause: options.cause });
    /** @type {"MemoryServiceError"} */
    this.name = "MemoryServiceError";
    this.code = options.code;
    this.reason = options.reason;
    this.violations = options.violations ?? [];
    this.metadata = options.metadata ?? {};
    this.retryAfterMs = options.retryAfterMs;
    this.requestId = options.requestId;
  }
};

/** @type {typeof import("./index.js").memoryServiceErrorFrom} */
export function memoryServiceErrorFrom(error) {
  if (error instanceof MemoryServiceError) return error;
  const failure = ConnectError.from(error);
  if (isConnectionLoss(failure)) {
    const message = `connection failed: ${failure.rawMessage}`;
    return new MemoryServiceError(message, { code: Code.Unavailable, cause: error });
  }
  const { reason, ...details } = readErrorDetails(failure);
  return new MemoryServiceError(failure.rawMessage || "the call failed", {
    ...details,
    code: failure.code,
    reason: reasonFrom(reason) ?? reasonByCode[failure.code],
    requestId: failure.metadata.get("x-request-id") ?? undefined,
    cause: error,
  });
}

/**
 * The error of a call that was ended on this side.
 *
 * @param {unknown} cause what the signal was aborted with
 */
export function canceledErrorFrom(cause) {
  if (cause instanceof MemoryServiceError) return cause;
  return new MemoryServiceError("the call was canceled", { code: Code.Canceled, reason: "CANCELED", cause });
}

/** @param {number} timeoutMs */
export function deadlineError(timeoutMs) {
  const message = `no answer within ${timeoutMs} ms`;
  return new MemoryServiceError(message, { code: Code.DeadlineExceeded, reason: "DEADLINE_EXCEEDED" });
}

/**
 * Reasons that connect's own errors have without saying so: its clocks and switches run on this side, too.
 *
 * @type {Partial<Record<Code, ErrorReasonName>>}
 */
const reasonByCode = { [Code.Canceled]: "CANCELED", [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED" };

/**
 * @param {string} [name]
 * @returns {ErrorReasonName | undefined}
 */
function reasonFrom(name = "UNSPECIFIED") {
  return isReason(name) ? name : undefined;
}

/**
 * @param {string} name
 * @returns {name is ErrorReasonName}
 */
function isReason(name) {
  // The object of an enum has its numbers for keys, too.
  return name !== "UNSPECIFIED" && Object.hasOwn(ErrorReason, name) && Number.isNaN(Number(name));
}

/**
 * True if no server has answered: connect names such errors by how the socket ended, and fetch throws a TypeError.
 *
 * @param {ConnectError} error
 */
function isConnectionLoss(error) {
  if (error.details.length > 0) return false;
  if (error.code === Code.Unknown) return error.cause instanceof TypeError;
  // A stream that a server refuses has not reached it: it was opened while the server closed the connection.
  if (error.code === Code.Internal) return refusedStream.test(messageOf(error.cause));
  // What was canceled on this side has been told apart before: see canceledErrorFrom.
  return error.code === Code.Aborted || error.code === Code.Canceled;
}

const refusedStream = /\bNGHTTP2_REFUSED_STREAM\b/;

/** @param {unknown} cause */
function messageOf(cause) {
  return cause instanceof Error ? cause.message : "";
}
