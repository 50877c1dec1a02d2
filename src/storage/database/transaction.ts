import { untilAborted } from "../../util/wait.ts";
import type { Parameter, Queryable, QueryOptions, Row, Statement } from "./database.ts";
import { DatabaseError } from "./database.ts";
import { isConnectionLost, mapDatabaseError, outcomeUnknown, SQLSTATE } from "./errors.ts";

/** One connection of an engine, which runs one statement after the other. */
export interface Connection {
  /** Rejects with the driver's own error, or with the signal's reason as soon as that is aborted. */
  query(statement: Statement, parameters: readonly Parameter[], signal?: AbortSignal): Promise<Row[]>;
  /** Runs a script; resolves to the command tag of its last statement (`COMMIT`, `ROLLBACK`, ...). */
  execute(script: string): Promise<string>;
  /** Resolves when nothing runs on the connection any more, also nothing whose caller has left. */
  idle(): Promise<void>;
}

/** What `work` gets: refuses to be used after its end. */
export interface Lent extends Queryable {
  close(reason: unknown): void;
}

/** Lends the connection until `close`. A signal given here applies to each statement, beside its own. */
export function lend(connection: Connection, signal: AbortSignal | undefined): Lent {
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
 * Runs `work` in a transaction on the connection. `release` is called when the connection is free again, which
 * is later than the rejection if the signal is aborted while a statement runs.
 */
export function runTransaction<T>(
  connection: Connection,
  work: (transaction: Queryable) => Promise<T>,
  signal: AbortSignal | undefined,
  release: () => void,
): Promise<T> {
  const lent = lend(connection, signal);
  // Gives up the caller's promise early. Not during the commit, whose outcome the caller must learn.
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
      value = await untilAborted(work(lent), signal);
      lent.close(new Error("the transaction has ended"));
      await connection.idle();
      signal?.throwIfAborted();
    } catch (error) {
      lent.close(error);
      await connection.idle();
      // Its failure means that the connection is lost, and with it the transaction.
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
    // PostgreSQL answers the commit of a failed transaction with ROLLBACK and no error: the work has swallowed
    // the error of one of its statements.
    throw new DatabaseError(
      SQLSTATE.inFailedTransaction,
      "the transaction had failed and was rolled back",
      {},
    );
  }
}
