import { ServiceError } from "../../memory/model/errors.ts";
import { DatabaseError } from "./database.ts";

/** The SQLSTATEs that the program tells apart. */
export const SQLSTATE = {
  featureNotSupported: "0A000",
  dataException: "22000",
  uniqueViolation: "23505",
  readOnlyTransaction: "25006",
  inFailedTransaction: "25P02",
  idleInTransactionTimeout: "25P03",
  invalidAuthorization: "28000",
  invalidPassword: "28P01",
  databaseDoesNotExist: "3D000",
  serializationFailure: "40001",
  deadlockDetected: "40P01",
  insufficientPrivilege: "42501",
  undefinedColumn: "42703",
  undefinedFunction: "42883",
  undefinedTable: "42P01",
  undefinedObject: "42704",
  ambiguousFunction: "42725",
  diskFull: "53100",
  outOfMemory: "53200",
  tooManyConnections: "53300",
  lockNotAvailable: "55P03",
  queryCanceled: "57014",
  adminShutdown: "57P01",
  crashShutdown: "57P02",
  cannotConnectNow: "57P03",
  databaseDropped: "57P04",
  idleSessionTimeout: "57P05",
} as const;

/** How long a caller should wait before it asks an absent database again. */
const DATABASE_RETRY_AFTER_MS = 1_000;
/** How long a caller should wait when the database is there and busy. */
const OVERLOAD_RETRY_AFTER_MS = 500;
/** A conflict is over as soon as the other transaction is. */
export const CONFLICT_RETRY_AFTER_MS = 50;

const connectionClass = "08";

const lostConnectionStates: ReadonlySet<string> = new Set([
  SQLSTATE.adminShutdown,
  SQLSTATE.crashShutdown,
  SQLSTATE.cannotConnectNow,
  SQLSTATE.databaseDropped,
  SQLSTATE.idleSessionTimeout,
  SQLSTATE.idleInTransactionTimeout,
]);

/** Refusals of a login. At start they stop the program; later (a rotated password) the database is away. */
const refusedLoginStates: ReadonlySet<string> = new Set([
  SQLSTATE.invalidAuthorization,
  SQLSTATE.invalidPassword,
  SQLSTATE.databaseDoesNotExist,
]);

const socketErrorCodes: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENETDOWN",
]);

/** node-postgres has no codes for these. */
const connectionMessages =
  /^(Connection terminated|Client has encountered a connection error|Client was closed|timeout exceeded when trying to connect|timeout expired|Cannot use a pool)/;
const notSentMessages =
  /^(Client has encountered a connection error|Client was closed|timeout exceeded|Cannot use a pool)/;

function stringProperty(error: unknown, name: string): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const value = (error as Readonly<Record<string, unknown>>)[name];
  return typeof value === "string" ? value : undefined;
}

/** The SQLSTATE that the server gave, if `error` (or what caused it) is an answer of the server. */
export function sqlstateOf(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const state = at instanceof DatabaseError ? at.sqlstate : stringProperty(at, "code");
    // Five characters alone would also be Node's EPIPE; a server's answer has a severity beside it.
    if (
      state !== undefined &&
      /^[0-9A-Z]{5}$/.test(state) &&
      (at instanceof DatabaseError || isServerAnswer(at))
    ) {
      return state;
    }
  }
  return undefined;
}

function isServerAnswer(error: unknown): boolean {
  return stringProperty(error, "severity") !== undefined;
}

/** The engine has ended with a request at it, of which nobody knows how far it came. */
export class EngineLostError extends Error {
  override readonly name = "EngineLostError";
}

/** True if the connection is gone, or was never there. */
export function isConnectionLost(error: unknown): boolean {
  if (error instanceof EngineLostError) return true;
  const state = sqlstateOf(error);
  if (state !== undefined) return state.startsWith(connectionClass) || lostConnectionStates.has(state);
  const code = stringProperty(error, "code");
  if (code !== undefined && socketErrorCodes.has(code)) return true;
  return error instanceof Error && connectionMessages.test(error.message);
}

/** True if the statement cannot have reached the server. */
function isNotSent(error: unknown): boolean {
  const code = stringProperty(error, "code");
  if (code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "EAI_AGAIN") return true;
  return error instanceof Error && notSentMessages.test(error.message);
}

/** The database cannot be reached; asking again may help. */
export function databaseUnavailable(cause: unknown, message = "the database is not available"): ServiceError {
  return new ServiceError("DATABASE_UNAVAILABLE", message, { retryAfterMs: DATABASE_RETRY_AFTER_MS, cause });
}

/** The change may or may not have been applied: the same call with the same ids finds out. */
export function outcomeUnknown(cause: unknown): ServiceError {
  return new ServiceError(
    "OUTCOME_UNKNOWN",
    "the connection to the database was lost while the change was being committed: it may have been applied",
    { retryAfterMs: DATABASE_RETRY_AFTER_MS, cause },
  );
}

/** More callers than the database takes at once. */
export function databaseOverloaded(cause?: unknown): ServiceError {
  return new ServiceError("OVERLOADED", "every connection to the database is busy", {
    retryAfterMs: OVERLOAD_RETRY_AFTER_MS,
    cause,
  });
}

/**
 * Maps the error of a statement that is its own transaction. If the statement `writes` and its connection was lost after it
 * was sent, the outcome is unknown.
 */
export function mapSentError(error: unknown, writes: boolean): ServiceError | DatabaseError {
  if (writes && isConnectionLost(error) && !isNotSent(error)) return outcomeUnknown(error);
  return mapDatabaseError(error);
}

/**
 * What a driver's error means. The driver's own text goes into `cause` only: it is logged and never sent.
 *
 * @returns a ServiceError where the condition is the same for every statement, otherwise a DatabaseError whose
 * SQLSTATE the caller interprets. Errors of these two classes are returned as they are.
 */
export function mapDatabaseError(error: unknown): ServiceError | DatabaseError {
  if (error instanceof ServiceError || error instanceof DatabaseError) return error;
  if (isConnectionLost(error)) return databaseUnavailable(error);
  const state = sqlstateOf(error);
  if (state === undefined)
    return new ServiceError("INTERNAL", "the database statement failed", { cause: error });
  if (refusedLoginStates.has(state)) return databaseUnavailable(error);
  switch (state) {
    case SQLSTATE.serializationFailure:
    case SQLSTATE.deadlockDetected:
    case SQLSTATE.lockNotAvailable:
      return new ServiceError("CONFLICT", "another change to the same data was in the way", {
        retryAfterMs: CONFLICT_RETRY_AFTER_MS,
        cause: error,
      });
    case SQLSTATE.queryCanceled:
      return new ServiceError("DEADLINE_EXCEEDED", "the database statement took longer than is allowed", {
        cause: error,
      });
    case SQLSTATE.tooManyConnections:
      return databaseOverloaded(error);
    case SQLSTATE.diskFull:
    case SQLSTATE.outOfMemory:
      return new ServiceError(
        "STORAGE_FULL",
        "the database has no room left: free space on its disk, then repeat the call",
        { cause: error },
      );
    case SQLSTATE.readOnlyTransaction:
      return databaseUnavailable(error, "the database accepts no changes at the moment");
    default:
      return new DatabaseError(state, `the database refused the statement with SQLSTATE ${state}`, {
        constraint: stringProperty(error, "constraint"),
        cause: error,
      });
  }
}
