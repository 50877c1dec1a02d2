import { untilAborted } from "../../util/wait.ts";
import type { Parameter, Queryable, QueryOptions, Row, Statement } from "./database.ts";
import { DatabaseError } from "./database.ts";
import { isConnectionLost, mapDatabaseError, outcomeUnknown, SQLSTATE } from "./errors.ts";

/** Connection of an engine. It executes one statement after the other. */
export interface Connection {
  /** Rejects with the error of the driver, or with the signal's reason as soon as the signal is aborted. */
  query(statement: Statement, parameters: readonly Parameter[], signal?: AbortSignal): Promise<Row[]>;
  /** Runs a script. Resolves to the command tag of its last statement, for example `COMMIT`. */
  execute(script: string): Promise<string>;
  /** Resolves when no statement runs on the connection, including statements whose callers have aborted. */
  idle(): Promise<void>;
}

/** Access to a connection for the length of a transaction or session. Every use after `close` fails. */
export interface ScopedQueryable extends Queryable {
  close(reason: unknown): void;
}

/** Creates access to the connection until `close`. The signal applies to each statement, together with its own. */
export function scope(connection: Connection, signal: AbortSignal | undefined): ScopedQueryable {
  let closedBy: { readonly reason: unknown } | undefined;
  const assertOpen = () => {
    if (closedBy !== undefined) throw closedBy.reason;
  };
  return {
    async query<R extends Row>(
      statement: Statement,
      parameters: readonly Parameter[] = [],
      options: QueryOptions = {},
    ): Promise<R[]> {
      assertOpen();
      const both = anySignal(signal, options.signal);
      both?.throwIfAborted();
      try {
        return (await connection.query(statement, parameters, both)) as R[];
      } catch (error) {
        both?.throwIfAborted();
        throw mapDatabaseError(error);
      }
    },
    async execute(script: string): Promise<void> {
      assertOpen();
      try {
        await connection.execute(script);
      } catch (error) {
        throw mapDatabaseError(error);
      }
    },
    close(reason) {
      closedBy ??= { reason };
    },
  };
}

function anySignal(a: AbortSignal | undefined, b: AbortSignal | undefined): AbortSignal | undefined {
  if (a === undefined || a === b) return b;
  return b === undefined ? a : AbortSignal.any([a, b]);
}

/**
 * Runs `work` in a transaction on the connection. Calls `release` when the connection is free again. If the signal is
 * aborted while a statement runs, the promise rejects before that.
 */
export function runTransaction<T>(
  connection: Connection,
  work: (transaction: Queryable) => Promise<T>,
  signal: AbortSignal | undefined,
  release: () => void,
): Promise<T> {
  const scoped = scope(connection, signal);
  // Rejects the caller's promise early, but not during the commit, because the caller must learn its outcome.
  const leave = new AbortController();
  const onAbort = () => leave.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });

  const run = async (): Promise<T> => {
    try {
      await connection.execute("begin isolation level read committed");
    } catch (error) {
      throw mapDatabaseError(error);
    }
    let value: T;
    try {
      value = await untilAborted(work(scoped), signal);
      scoped.close(new Error("the transaction has ended"));
      await connection.idle();
      signal?.throwIfAborted();
    } catch (error) {
      scoped.close(error);
      await connection.idle();
      // If the rollback fails, the connection is lost, and the transaction with it.
      await connection.execute("rollback").catch(() => undefined);
      throw error;
    }
    signal?.removeEventListener("abort", onAbort);
    await commit(connection);
    return value;
  };
  const ended = run().finally(() => {
    signal?.removeEventListener("abort", onAbort);
    release();
  });
  return untilAborted(ended, leave.signal);
}

async function commit(connection: Connection): Promise<void> {
  let tag: string;
  try {
    tag = await connection.execute("commit");
  } catch (error) {
    throw isConnectionLost(error) ? outcomeUnknown(error) : mapDatabaseError(error);
  }
  if (tag !== "COMMIT") {
    // PostgreSQL responds to the commit of a failed transaction with ROLLBACK and no error. This happens if `work` has
    // caught the error of one of its statements.
    throw new DatabaseError(
      SQLSTATE.inFailedTransaction,
      "the transaction was rolled back because one of its statements had failed",
      {},
    );
  }
}
