import type {
  Database,
  Parameter,
  Queryable,
  QueryOptions,
  Row,
  Statement,
} from "../../../src/storage/database/database.ts";
import { SQLSTATE, sqlstateOf } from "../../../src/storage/database/errors.ts";

/**
 * Wraps a database so that a statement without `writes: true` fails if it writes: it runs in a read-only transaction, or in
 * a read-only subtransaction of the caller's transaction. Statements of sessions are not checked.
 */
export function requireDeclaredWrites(database: Database): Database {
  return new Proxy(database, {
    get(target, property) {
      if (property === "query") {
        return async <R extends Row>(
          statement: Statement,
          parameters?: readonly Parameter[],
          options?: QueryOptions,
        ): Promise<R[]> => {
          if (statement.writes) return await target.query<R>(statement, parameters, options);
          return await target.transaction(async (transaction) => {
            await transaction.execute("set transaction read only");
            return await refuseWrites(statement, transaction.query<R>(statement, parameters, options));
          }, options);
        };
      }
      if (property === "transaction") {
        return <T>(work: (transaction: Queryable) => Promise<T>, options?: QueryOptions): Promise<T> =>
          target.transaction((transaction) => work(checkedTransaction(transaction)), options);
      }
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function checkedTransaction(transaction: Queryable): Queryable {
  // Savepoints nest, so concurrent statements of one transaction must not interleave.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(task: () => Promise<T>): Promise<T> => {
    const mine = last.then(task, task);
    last = mine;
    return mine;
  };
  return {
    query: <R extends Row>(
      statement: Statement,
      parameters?: readonly Parameter[],
      options?: QueryOptions,
    ): Promise<R[]> =>
      inTurn(async () => {
        if (statement.writes) return await transaction.query<R>(statement, parameters, options);
        await transaction.execute("savepoint declared_writes; set transaction read only");
        const rows = await refuseWrites(statement, transaction.query<R>(statement, parameters, options));
        await transaction.execute("release savepoint declared_writes");
        return rows;
      }),
    execute: (script) => inTurn(() => transaction.execute(script)),
  };
}

async function refuseWrites<R>(statement: Statement, rows: Promise<R[]>): Promise<R[]> {
  try {
    return await rows;
  } catch (error) {
    if (sqlstateOf(error) !== SQLSTATE.readOnlyTransaction) throw error;
    throw new Error(`this statement writes but lacks writes: true:\n${statement.text}`, { cause: error });
  }
}
