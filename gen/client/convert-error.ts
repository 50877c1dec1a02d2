import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "../src/memoryservice/v1/error_reason_pb.js";
import { readErrorDetails } from "./error-details.ts";
import { type ErrorReasonName, MemoryServiceError } from "./errors.ts";

/** Converts an error that a call of `raw` has thrown into the error that the other methods throw. */
export function memoryServiceErrorFrom(error: unknown): MemoryServiceError {
  if (error instanceof MemoryServiceError) return error;
  const connectError = ConnectError.from(error);
  if (isConnectionFailure(connectError)) {
    const message = `connection failed: ${connectError.rawMessage}`;
    return new MemoryServiceError(message, { code: Code.Unavailable, cause: error });
  }
  const { reason, ...details } = readErrorDetails(connectError);
  return new MemoryServiceError(connectError.rawMessage || "the call failed", {
    ...details,
    code: connectError.code,
    reason: reasonFrom(reason) ?? reasonByCode[connectError.code],
    requestId: connectError.metadata.get("x-request-id") ?? undefined,
    cause: error,
  });
}

/** Reasons of errors that Connect itself throws, without details, when it cancels a call or its deadline passes. */
const reasonByCode: Partial<Record<Code, ErrorReasonName>> = {
  [Code.Canceled]: "CANCELED",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
};

function reasonFrom(name = "UNSPECIFIED"): ErrorReasonName | undefined {
  return isReason(name) ? name : undefined;
}

function isReason(name: string): name is ErrorReasonName {
  // An enum object also has its numbers as keys.
  return name !== "UNSPECIFIED" && Object.hasOwn(ErrorReason, name) && Number.isNaN(Number(name));
}

/**
 * Returns whether the call failed without a response from the server. Connect derives the code of such errors from how
 * the socket ended, and fetch throws a TypeError.
 */
function isConnectionFailure(error: ConnectError): boolean {
  if (error.details.length > 0) return false;
  if (error.code === Code.Unknown) return error.cause instanceof TypeError;
  // A closing server refuses new streams. It has not read their requests.
  if (error.code === Code.Internal) return refusedStream.test(messageOf(error.cause));
  // Calls that this side canceled never get here: their callers throw canceledErrorFrom first.
  return error.code === Code.Aborted || error.code === Code.Canceled;
}

const refusedStream = /\bNGHTTP2_REFUSED_STREAM\b/;

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : "";
}
