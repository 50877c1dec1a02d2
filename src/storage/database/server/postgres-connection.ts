import pg from "pg";
import { untilAborted } from "../../../util/wait.ts";
import type { Parameter, Row, Statement } from "../database.ts";
import { SQLSTATE, sqlstateOf } from "../errors.ts";
import { assertStatementName, MAX_PREPARED_STATEMENTS } from "../prepared-statements.ts";
import type { Connection } from "../transaction.ts";
import { wireValueFrom } from "../wire-values.ts";
import { sendCancelRequest } from "./postgres-cancel.ts";

/** Time after which the connection is closed if a cancelled statement still runs. */
const cancelGraceMs = 5_000;

/** Scripts that finish at once. Other scripts may take any length of time. */
const transactionControl = /^(begin|commit|rollback|savepoint|release)\b/;

/** Properties that node-postgres does not declare. */
interface ClientInternals {
  readonly processID: number | null;
  readonly secretKey: number | null;
  readonly connection: { readonly parsedStatements: Record<string, string> };
}

interface Request extends pg.QueryConfig {
  /** Sends one statement, planned every time, even if it has no parameters. Missing in the types of node-postgres. */
  readonly queryMode?: "extended";
}

/**
 * Connection of the pool. It executes one statement after the other, keeps at most MAX_PREPARED_STATEMENTS prepared
 * statements, and cancels a statement on the server when its caller aborts.
 */
export class PostgresConnection implements Connection {
  readonly #client: pg.Client;
  readonly #preparedStatements: boolean;
  /** Names of prepared statements, the least recently used first. */
  readonly #names = new Set<string>();
  /** Names of statements that must be prepared again because their table has changed. */
  readonly #stale = new Set<string>();
  #tail: Promise<unknown> = Promise.resolve();
  #pending = 0;
  #broken = false;
  readonly #onReadOnly: () => void;
  #silenceMs: number | undefined;

  /**
   * @param onReadOnly called when the server has refused a change because it has become a standby.
   * @param silenceMs time after which the connection is closed if the server does not respond to a statement, because
   * the server may have disappeared without closing the connection. Undefined: no limit.
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

  /** Removes the limit on the time that a statement may take. */
  allowSilence(): void {
    this.#silenceMs = undefined;
  }

  /** True while a statement runs, including one whose caller has aborted. */
  get busy(): boolean {
    return this.#pending > 0;
  }

  /** True if the connection must not be used again. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Marks the connection as unusable. */
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
      if (name !== undefined) await this.#reserveName(name);
      const send = async () => (await this.#send(request, signal)).rows as Row[];
      try {
        return await send();
      } catch (error) {
        if (name === undefined || !isOutdatedPlan(error)) throw error;
        this.#stale.add(name);
        // In a transaction, the failure has aborted the transaction. Outside, the statement had no effect and can be
        // retried.
        if (this.#client.getTransactionStatus() !== "I") throw error;
        await this.#reserveName(name);
        return await send();
      }
    });
    return untilAborted(rows, signal);
  }

  execute(script: string): Promise<string> {
    return this.#inTurn(async () => {
      const results: unknown = transactionControl.test(script)
        ? await this.#sendShort(script)
        : await this.#client.query(script);
      const last = Array.isArray(results) ? results.at(-1) : results;
      return (last as pg.QueryResult | undefined)?.command ?? "";
    });
  }

  /** Sends a statement that finishes at once. */
  async #sendShort(text: string): Promise<pg.QueryResult> {
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
      // The rejection is handled below, after the statement has ended.
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
      if (cancelled !== undefined) await this.#completeCancel(cancelled);
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

  /** Waits until the cancellation can no longer affect the next statement. */
  async #completeCancel(cancelled: Promise<void>): Promise<void> {
    try {
      await cancelled;
    } catch {
      this.#broken = true;
      return;
    }
    // Receives a signal that has been sent but not delivered. It may fail, because of that signal or in a failed
    // transaction. If the connection is lost, the pool notices it on its own.
    await this.#sendShort("select 1").catch(() => undefined);
  }

  async #reserveName(name: string): Promise<void> {
    if (this.#stale.delete(name)) await this.#deallocate(name);
    // Deletes a known name first, so that it moves to the end.
    if (!this.#names.delete(name) && this.#names.size >= MAX_PREPARED_STATEMENTS) {
      const [oldest] = this.#names;
      if (oldest !== undefined) {
        await this.#deallocate(oldest);
        this.#names.delete(oldest);
      }
    }
    this.#names.add(name);
  }

  async #deallocate(name: string): Promise<void> {
    const { parsedStatements } = (this.#client as unknown as ClientInternals).connection;
    if (parsedStatements[name] === undefined) return;
    await this.#sendShort(`deallocate ${pg.escapeIdentifier(name)}`);
    delete parsedStatements[name];
  }
}

/**
 * Tests whether the result of a prepared statement would now have other types, for example because its table was
 * recreated with other dimensions. The routine identifies the error: others have the same SQLSTATE, and the message may
 * be translated.
 */
function isOutdatedPlan(error: unknown): boolean {
  return (
    sqlstateOf(error) === SQLSTATE.featureNotSupported &&
    error instanceof pg.DatabaseError &&
    error.routine === "RevalidateCachedQuery"
  );
}
