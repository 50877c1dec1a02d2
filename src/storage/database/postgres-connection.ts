import pg from "pg";
import { untilAborted } from "../../util/wait.ts";
import type { Parameter, Row, Statement } from "./database.ts";
import { SQLSTATE, sqlstateOf } from "./errors.ts";
import { sendCancelRequest } from "./postgres-cancel.ts";
import { assertStatementName, MAX_PREPARED_STATEMENTS } from "./prepared-statements.ts";
import type { Connection } from "./transaction.ts";
import { wireValueFrom } from "./wire-values.ts";

/** How long a cancelled statement may go on before its connection is cut. */
const cancelGraceMs = 5_000;

/** Scripts that take no time; others may take any. */
const transactionControl = /^(begin|commit|rollback|savepoint|release)\b/;

/** What node-postgres keeps and does not declare. */
interface ClientInternals {
  readonly processID: number | null;
  readonly secretKey: number | null;
  readonly connection: { readonly parsedStatements: Record<string, string> };
}

interface Request extends pg.QueryConfig {
  /** Declared by node-postgres, missing in its types: also without parameters one statement, planned anew. */
  readonly queryMode?: "extended";
}

/**
 * One connection of the pool: runs one statement after the other, keeps at most MAX_PREPARED_STATEMENTS prepared
 * and cancels on the server what its caller no longer waits for.
 */
export class PostgresConnection implements Connection {
  readonly #client: pg.Client;
  readonly #preparedStatements: boolean;
  /** Names in the order of their last use. */
  readonly #names = new Set<string>();
  /** Prepared before a table changed its shape, to be prepared again. */
  readonly #stale = new Set<string>();
  #tail: Promise<unknown> = Promise.resolve();
  #pending = 0;
  #broken = false;
  readonly #onReadOnly: () => void;
  #silenceMs: number | undefined;

  /**
   * @param onReadOnly told when the server has refused a change because it is a standby now.
   * @param silenceMs after this without an answer to a statement the connection is cut: its server is gone and nobody
   * has said so. Undefined: never.
   */
  constructor(
    client: pg.Client,
    preparedStatements: boolean,
    onReadOnly: () => void,
    silenceMs: number | undefined,
  ) {
    this.#client = client;
    this.#onReadOnly = onReadOnly;
    this.#preparedStatements = preparedStatements;
    this.#silenceMs = silenceMs;
  }

  /** Statements may take as long as they like from now on. */
  allowSilence(): void {
    this.#silenceMs = undefined;
  }

  /** True while a statement runs, also one whose caller has left. */
  get busy(): boolean {
    return this.#pending > 0;
  }

  /** True if the connection must not be used again. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Never use the connection again. */
  markBroken(): void {
    this.#broken = true;
  }

  async idle(): Promise<void> {
    while (this.#pending > 0) await this.#tail.catch(() => undefined);
  }

  query(statement: Statement, parameters: readonly Parameter[], signal?: AbortSignal): Promise<Row[]> {
    if (statement.name !== undefined) assertStatementName(statement.name);
    const values = parameters.map(wireValueFrom);
    const name = this.#preparedStatements ? statement.name : undefined;
    const request: Request =
      name === undefined
        ? { text: statement.text, values, queryMode: "extended" }
        : { text: statement.text, values, name };
    const rows = this.#inTurn(async () => {
      signal?.throwIfAborted();
      if (name !== undefined) await this.#makeRoomFor(name);
      const send = async () => (await this.#send(request, signal)).rows as Row[];
      try {
        return await send();
      } catch (error) {
        if (name === undefined || !isOutdatedPlan(error)) throw error;
        this.#stale.add(name);
        // In a transaction the failure has ended it; outside nothing has happened yet.
        if (this.#client.getTransactionStatus() !== "I") throw error;
        await this.#makeRoomFor(name);
        return await send();
      }
    });
    return untilAborted(rows, signal);
  }

  execute(script: string): Promise<string> {
    return this.#inTurn(async () => {
      const results: unknown = transactionControl.test(script)
        ? await this.#ask(script)
        : await this.#client.query(script);
      const last = Array.isArray(results) ? results.at(-1) : results;
      return (last as pg.QueryResult | undefined)?.command ?? "";
    });
  }

  /** For what takes no time. */
  async #ask(text: string): Promise<pg.QueryResult> {
    const watch = this.#watchSilence();
    return await this.#client.query(text).finally(() => clearTimeout(watch));
  }

  async #inTurn<T>(task: () => Promise<T>): Promise<T> {
    this.#pending++;
    const mine = this.#tail.then(task, task);
    this.#tail = mine;
    try {
      return await mine;
    } finally {
      this.#pending--;
    }
  }

  async #send(request: Request, signal: AbortSignal | undefined): Promise<pg.QueryResult> {
    let cancelled: Promise<void> | undefined;
    let timer: NodeJS.Timeout | undefined;
    const cancel = () => {
      cancelled = this.#cancel();
      // Handled below, but only once the statement has ended.
      cancelled.catch(() => undefined);
      timer = setTimeout(() => void this.#client.end(), cancelGraceMs);
    };
    signal?.addEventListener("abort", cancel, { once: true });
    const watch = this.#watchSilence();
    try {
      return await this.#client.query(request);
    } catch (error) {
      if (sqlstateOf(error) === SQLSTATE.readOnlyTransaction) this.#onReadOnly();
      throw error;
    } finally {
      clearTimeout(timer);
      clearTimeout(watch);
      signal?.removeEventListener("abort", cancel);
      if (cancelled !== undefined) await this.#settleCancel(cancelled);
    }
  }

  #watchSilence(): NodeJS.Timeout | undefined {
    return this.#silenceMs === undefined
      ? undefined
      : setTimeout(() => void this.#client.end(), this.#silenceMs);
  }

  #cancel(): Promise<void> {
    const { host, port } = this.#client;
    const { processID, secretKey } = this.#client as unknown as ClientInternals;
    if (processID === null || secretKey === null) return Promise.resolve();
    return sendCancelRequest({ host, port, processId: processID, secretKey }, cancelGraceMs);
  }

  /** The statement is over, but its cancellation may still be under way and must not hit the next one. */
  async #settleCancel(cancelled: Promise<void>): Promise<void> {
    try {
      await cancelled;
    } catch {
      this.#broken = true;
      return;
    }
    // Takes a signal that has been sent and not been delivered yet. Failing is its purpose, also in a failed
    // transaction; on a lost connection the pool notices by itself.
    await this.#ask("select 1").catch(() => undefined);
  }

  async #makeRoomFor(name: string): Promise<void> {
    if (this.#stale.delete(name)) await this.#forget(name);
    // Deleting first moves a known name to the end: the order is the order of use.
    if (!this.#names.delete(name) && this.#names.size >= MAX_PREPARED_STATEMENTS) {
      const [oldest] = this.#names;
      if (oldest !== undefined) {
        await this.#forget(oldest);
        this.#names.delete(oldest);
      }
    }
    this.#names.add(name);
  }

  async #forget(name: string): Promise<void> {
    const { parsedStatements } = (this.#client as unknown as ClientInternals).connection;
    if (parsedStatements[name] === undefined) return;
    await this.#ask(`deallocate ${pg.escapeIdentifier(name)}`);
    delete parsedStatements[name];
  }
}

/**
 * A prepared statement whose result would now have other types: its table was dropped and made again with other
 * dimensions, say. Told by the routine, since the state is shared and the text is translated.
 */
function isOutdatedPlan(error: unknown): boolean {
  return (
    sqlstateOf(error) === SQLSTATE.featureNotSupported &&
    error instanceof pg.DatabaseError &&
    error.routine === "RevalidateCachedQuery"
  );
}
