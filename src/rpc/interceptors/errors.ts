import { Code, ConnectError, type ContextValues, type Interceptor } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../generated/google/rpc/error_details_pb.ts";
import { type ErrorReason, isAbort, ServiceError } from "../../memory/model/errors.ts";
import type { Logger } from "../../util/logger.ts";
import { kCall } from "../call-log.ts";

/** The `domain` of every google.rpc.ErrorInfo this server sends: reasons are those of this contract. */
export const errorDomain = "memoryservice.v1";

/** Status code of each reason. */
export const codeByReason: Readonly<Record<ErrorReason, Code>> = {
  INVALID_ARGUMENT: Code.InvalidArgument,
  INVALID_PAGE_TOKEN: Code.InvalidArgument,
  MEMORY_NOT_FOUND: Code.NotFound,
  DOMAIN_NOT_FOUND: Code.NotFound,
  MEMORY_ALREADY_EXISTS: Code.AlreadyExists,
  DOMAIN_ALREADY_EXISTS: Code.AlreadyExists,
  VERSION_MISMATCH: Code.Aborted,
  CONFLICT: Code.Aborted,
  SCHEMA_MISMATCH: Code.FailedPrecondition,
  RESPONSE_TOO_LARGE: Code.FailedPrecondition,
  DOMAIN_LIMIT_REACHED: Code.ResourceExhausted,
  OVERLOADED: Code.ResourceExhausted,
  STORAGE_FULL: Code.ResourceExhausted,
  DATABASE_UNAVAILABLE: Code.Unavailable,
  EMBEDDER_UNAVAILABLE: Code.Unavailable,
  OUTCOME_UNKNOWN: Code.Unavailable,
  SHUTTING_DOWN: Code.Unavailable,
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  CANCELED: Code.Canceled,
  AUTHENTICATION_UNAVAILABLE: Code.Unavailable,
  UNAUTHENTICATED: Code.Unauthenticated,
  PERMISSION_DENIED: Code.PermissionDenied,
  HOST_NOT_ALLOWED: Code.PermissionDenied,
  NOT_IMPLEMENTED: Code.Unimplemented,
  INTERNAL: Code.Internal,
};

type OutgoingDetails = NonNullable<ConstructorParameters<typeof ConnectError>[3]>;

/** The reason added to connect's own errors where their code leaves no doubt about it. */
const reasonByConnectCode: Partial<Record<Code, ErrorReason>> = {
  [Code.Canceled]: "CANCELED",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.Unimplemented]: "NOT_IMPLEMENTED",
};

/**
 * Maximum characters of field violations in one error. They are sent in HTTP trailers as base64, and some clients
 * accept only 8 KiB of trailers. Violations that do not fit are omitted, except the first.
 */
const maxViolationChars = 2_000;

/** Maximum characters of a message. gRPC sends it twice: percent-encoded and within the details. */
const maxMessageChars = 500;

/**
 * The one mapping of errors to status codes and details.
 *
 * ServiceErrors get the code of their reason. ConnectErrors keep theirs. An abort is what its signal says
 * (DeadlineExceeded, Unavailable while shutting down), else Canceled. Anything else is a defect: Internal with
 * a fixed text, the original as `cause`, which is never sent.
 *
 * @param signal the signal of the call: an abort thrown after it fired is answered with its reason.
 */
export function connectErrorFrom(error: unknown, signal?: AbortSignal): ConnectError {
  if (error instanceof ServiceError) return fromServiceError(error);
  if (error instanceof ConnectError) return withReason(error);
  if (signal?.aborted && (error === signal.reason || isAbort(error) || isConnectionLoss(error))) {
    const reason: unknown = signal.reason;
    if (reason instanceof ConnectError) return withReason(reason);
    return fromServiceError(new ServiceError("CANCELED", "the call was canceled", { cause: error }));
  }
  if (isAbort(error)) {
    const timedOut = error instanceof Error && error.name === "TimeoutError";
    return fromServiceError(
      timedOut
        ? new ServiceError("DEADLINE_EXCEEDED", "the deadline passed", { cause: error })
        : new ServiceError("CANCELED", "the call was canceled", { cause: error }),
    );
  }
  return fromServiceError(new ServiceError("INTERNAL", "", { cause: error }));
}

/** Returns whether an error is a fault of the server, so that its cause must be logged. */
function isUnexpected(error: ConnectError): boolean {
  return (
    (error.code === Code.Internal || error.code === Code.Unknown || error.code === Code.DataLoss) &&
    error.cause !== undefined
  );
}

/** Only an operator can resolve these errors, so the server logs them too. */
const reasonsForOperators: ReadonlySet<ErrorReason> = new Set(["STORAGE_FULL", "SCHEMA_MISMATCH"]);

/**
 * Converts everything that handlers throw to the errors of the contract, in unary calls and in streams, and logs the
 * cause of unexpected errors. Only tracing and the audit may be outside of this interceptor.
 */
export function createErrorInterceptor(options: { readonly logger: Logger }): Interceptor {
  return (next) => async (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    const convert = (error: unknown) => {
      const converted = connectErrorFrom(error, request.signal);
      record(request.contextValues, converted, method, options.logger);
      if (error instanceof ServiceError && reasonsForOperators.has(error.reason)) {
        options.logger.error({ err: error.cause, method }, error.message);
      }
      return converted;
    };
    try {
      const response = await next(request);
      if (!response.stream) return response;
      // A generator throws while it is iterated, long after next() has resolved.
      return { ...response, message: convertErrors(response.message, convert) };
    } catch (error) {
      throw convert(error);
    }
  };
}

async function* convertErrors<T>(messages: AsyncIterable<T>, convert: (error: unknown) => ConnectError) {
  try {
    yield* messages;
  } catch (error) {
    throw convert(error);
  }
}

function record(values: ContextValues, error: ConnectError, method: string, logger: Logger): void {
  const call = values.get(kCall);
  if (call !== undefined) call.code = error.code;
  if (!isUnexpected(error)) return;
  logger.error({ err: error.cause, method, requestId: call?.requestId }, "call failed unexpectedly");
}

function fromServiceError(error: ServiceError): ConnectError {
  const { message, metadata, violations } = outgoingParts(error);
  const details: OutgoingDetails = [
    { desc: ErrorInfoSchema, value: { reason: error.reason, domain: errorDomain, metadata } },
  ];
  if (violations.length > 0) {
    details.push({ desc: BadRequestSchema, value: { fieldViolations: violations } });
  }
  if (error.retryAfterMs !== undefined) {
    details.push({ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(error.retryAfterMs) } });
  }
  return new ConnectError(message, codeByReason[error.reason], undefined, details, error.cause);
}

/** What is sent of an error, of bounded length and well-formed. */
export function outgoingParts(error: ServiceError) {
  return {
    message: error.reason === "INTERNAL" ? "internal error" : clean(error.message, maxMessageChars),
    metadata: cleanMetadata(error),
    violations: violationsThatFit(error),
  };
}

function cleanMetadata(error: ServiceError): Record<string, string> {
  return Object.fromEntries(
    Object.entries(error.metadata).map(([key, value]) => [key, clean(value, maxMessageChars)]),
  );
}

function violationsThatFit(error: ServiceError) {
  let chars = 0;
  return error.violations
    .map(({ field, description }) => ({
      field: clean(field, maxMessageChars),
      description: clean(description, maxMessageChars),
    }))
    .filter(({ field, description }, index) => {
      chars += field.length + description.length;
      return index === 0 || chars <= maxViolationChars;
    });
}

function withReason(error: ConnectError): ConnectError {
  const reason = reasonByConnectCode[error.code];
  if (reason === undefined || error.details.length > 0) return error;
  return new ConnectError(
    error.rawMessage,
    error.code,
    error.metadata,
    [{ desc: ErrorInfoSchema, value: { reason, domain: errorDomain } }],
    error.cause,
  );
}

/** Returns whether Node raised the error because the client disconnected in the middle of its request. */
function isConnectionLoss(error: unknown): boolean {
  if (!(error instanceof Error) || !("code" in error)) return false;
  return ["ECONNRESET", "ERR_STREAM_PREMATURE_CLOSE", "ERR_HTTP2_INVALID_STREAM"].includes(
    String(error.code),
  );
}

function durationFromMs(ms: number) {
  const whole = Math.max(0, Math.round(ms));
  return { seconds: BigInt(Math.floor(whole / 1_000)), nanos: (whole % 1_000) * 1_000_000 };
}

/** Lone surrogates would make the encoding of the error itself fail. */
function clean(text: string, maxChars: number): string {
  return (text.length <= maxChars ? text : `${text.slice(0, maxChars - 3)}...`).toWellFormed();
}
