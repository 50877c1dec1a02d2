import { ServiceError } from "../../memory/model/errors.ts";
import { DatabaseError } from "./database.ts";

/** SQLSTATEs that the program distinguishes. */
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

/** Recommended delay before a caller retries while the database is unavailable. */
const DATABASE_RETRY_AFTER_MS = 1_000;
/** Recommended delay before a caller retries while all connections are busy. */
const OVERLOAD_RETRY_AFTER_MS = 500;
/** Recommended delay before a caller retries after a conflict, which ends with the other transaction. */
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

/**
 * States of a refused login. They stop the program at its start. Later, for example after a password change, the
 * database counts as unavailable.
 */
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

/** Messages of node-postgres for errors without a code. */
const connectionMessages =
  /^(Connection terminated|Client has encountered a connection error|Client was closed|timeout exceeded when trying to connect|timeout expired|Cannot use a pool)/;
const notSentMessages =
  /^(Client has encountered a connection error|Client was closed|timeout exceeded|Cannot use a pool)/;

function stringProperty(error: unknown, name: string): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const value = (error as Readonly<Record<string, unknown>>)[name];
  return typeof value === "string" ? value : undefined;
}

/** Returns the SQLSTATE of `error` or of its causes, if one of them is an error that the server returned. */
export function sqlstateOf(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const state = at instanceof DatabaseError ? at.sqlstate : stringProperty(at, "code");
    // Codes of Node.js such as EPIPE also have five characters. Errors of the server have a severity as well.
    if (
      state !== undefined &&
      /^[0-9A-Z]{5}$/.test(state) &&
      (at instanceof DatabaseError || isServerError(at))
    ) {
      return state;
    }
  }
  return undefined;
}

function isServerError(error: unknown): boolean {
  return stringProperty(error, "severity") !== undefined;
}

/** The engine stopped while it executed a request, so the outcome of the request is unknown. */
export class EngineLostError extends Error {
  override readonly name = "EngineLostError";
}

/** Tests whether the connection was lost or could not be opened. */
export function isConnectionLost(error: unknown): boolean {
  if (error instanceof EngineLostError) return true;
  const state = sqlstateOf(error);
  if (state !== undefined) return state.startsWith(connectionClass) || lostConnectionStates.has(state);
  const code = stringProperty(error, "code");
  if (code !== undefined && socketErrorCodes.has(code)) return true;
  return error instanceof Error && connectionMessages.test(error.message);
}

/** Tests whether the statement cannot have reached the server. */
function isNotSent(error: unknown): boolean {
  const code = stringProperty(error, "code");
  if (code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "EAI_AGAIN") return true;
  return error instanceof Error && notSentMessages.test(error.message);
}

/** Creates the error for a database that is unavailable. Retrying may help. */
export function databaseUnavailable(cause: unknown, message = "the database is unavailable"): ServiceError {
  return new ServiceError("DATABASE_UNAVAILABLE", message, { retryAfterMs: DATABASE_RETRY_AFTER_MS, cause });
}

/** Creates the error for a change that may have been applied. Repeating the call with the same ids is safe. */
export function outcomeUnknown(cause: unknown): ServiceError {
  return new ServiceError(
    "OUTCOME_UNKNOWN",
    "the connection to the database was lost during the commit, so the change may have been applied",
    { retryAfterMs: DATABASE_RETRY_AFTER_MS, cause },
  );
}

/** Creates the error for a call that found no free connection in time. */
export function databaseOverloaded(cause?: unknown): ServiceError {
  return new ServiceError("OVERLOADED", "all connections to the database are busy", {
    retryAfterMs: OVERLOAD_RETRY_AFTER_MS,
    cause,
  });
}

/**
 * Maps the error of a statement that is its own transaction. If the statement `writes` and its connection was lost
 * after it was sent, the outcome is unknown.
 */
export function mapSentError(error: unknown, writes: boolean): ServiceError | DatabaseError {
  if (writes && isConnectionLost(error) && !isNotSent(error)) return outcomeUnknown(error);
  return mapDatabaseError(error);
}

/**
 * Maps an error of the driver. The driver's text is kept in `cause`, which is logged but never sent to a client.
 *
 * @returns a ServiceError for a condition that means the same for every statement, otherwise a DatabaseError whose
 * SQLSTATE the caller interprets. Errors of these two classes are returned unchanged.
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
      return new ServiceError("CONFLICT", "a concurrent change to the same data prevented this one", {
        retryAfterMs: CONFLICT_RETRY_AFTER_MS,
        cause: error,
      });
    case SQLSTATE.queryCanceled:
      return new ServiceError("DEADLINE_EXCEEDED", "the database statement exceeded its time limit", {
        cause: error,
      });
    case SQLSTATE.tooManyConnections:
      return databaseOverloaded(error);
    case SQLSTATE.diskFull:
    case SQLSTATE.outOfMemory:
      return new ServiceError(
        "STORAGE_FULL",
        "the database has no space left; free space on its disk, then retry",
        { cause: error },
      );
    case SQLSTATE.readOnlyTransaction:
      return databaseUnavailable(error, "the database does not accept changes at the moment");
    default:
      return new DatabaseError(state, `the database refused the statement with SQLSTATE ${state}`, {
        constraint: stringProperty(error, "constraint"),
        cause: error,
      });
  }
}
