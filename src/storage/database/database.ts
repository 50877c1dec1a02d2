/**
 * The interface between the repository and its two engines: a `pg` pool of connections to a PostgreSQL server, or
 * PGlite in a worker thread. Both return the same values: `int8` as bigint, `jsonb` parsed, and `bytea` as Uint8Array.
 * Statements convert `timestamptz` to microseconds in SQL, because a Date would truncate times to milliseconds.
 */

/** Value for a parameter `$n`. A Float32Array is sent as a `vector` in binary form, a Uint8Array as `bytea`. */
export type Parameter =
  | string
  | number
  | bigint
  | boolean
  | null
  | Uint8Array
  | Float32Array
  | readonly string[]
  | readonly number[];

export type Row = Readonly<Record<string, unknown>>;

/** Statement with parameters. */
export interface Statement {
  readonly text: string;
  /**
   * Name of at most 63 bytes under which each connection prepares the statement once. A statement without a name is
   * planned every time.
   */
  readonly name?: string;
  /**
   * True if the statement changes or locks rows, directly or in a function, so that a read-only transaction would
   * refuse it. If the connection is lost while such a statement runs outside a transaction, its outcome is unknown.
   */
  readonly writes?: true;
}

export interface QueryOptions {
  /** Rejects the promise at once when aborted, and cancels the statement on the server if the engine supports that. */
  readonly signal?: AbortSignal | undefined;
}

export interface Queryable {
  /**
   * Runs one statement and returns its rows.
   *
   * @throws ServiceError for conditions that mean the same for every statement, such as DATABASE_UNAVAILABLE, CONFLICT
   * and OVERLOADED (see errors.ts).
   * @throws DatabaseError with its SQLSTATE for errors that the caller has to interpret, such as a unique violation.
   */
  query<R extends Row = Row>(
    statement: Statement,
    parameters?: readonly Parameter[],
    options?: QueryOptions,
  ): Promise<R[]>;

  /** Runs a script of one or more statements without parameters. Every script counts as one that writes. */
  execute(script: string): Promise<void>;
}

/** State of a database that responds. */
export interface DatabaseState {
  /** False for a standby, and for the embedded engine while its disk is nearly full: they only read. */
  readonly writable: boolean;
}

/** Numbers of connections, for metrics. */
export interface ConnectionCounts {
  /** Open connections. The embedded engine has one. */
  readonly total: number;
  /** Open connections that are not in use. */
  readonly idle: number;
  /** Statements and transactions that wait for a connection. */
  readonly waiting: number;
}

export interface Database extends Queryable {
  readonly engine: "embedded" | "postgres";

  /**
   * Runs `work` in a read-committed transaction. Commits if it resolves and rolls back if it rejects. `work` must not
   * wait for anything but the database, because the embedded engine has a single connection. Aborting the signal rolls
   * the transaction back, unless the commit has already begun.
   *
   * @throws ServiceError OUTCOME_UNKNOWN if the connection is lost during the commit.
   */
  transaction<T>(work: (transaction: Queryable) => Promise<T>, options?: QueryOptions): Promise<T>;

  /**
   * Reserves one connection for `work`, without a transaction. Use it for session settings, for advisory locks that
   * outlive a transaction, and for statements that cannot run in one. Settings and locks end with the session. `work`
   * must not wait for anything but the database, as in a transaction.
   */
  session<T>(work: (session: Queryable) => Promise<T>, options?: QueryOptions): Promise<T>;

  /**
   * Resolves if the engine responds within `timeoutMs`, or if it is known to be executing a statement. Callers that
   * wait for a connection do not delay it.
   *
   * @throws ServiceError DATABASE_UNAVAILABLE.
   */
  ping(timeoutMs: number): Promise<DatabaseState>;

  /**
   * Returns values of pgvector's types `vector` and `halfvec` as arrays of numbers from now on. Before, they are text.
   * Call it when the extension exists, and again if it has been recreated.
   *
   * @throws Error if the extension does not exist.
   */
  registerVectorTypes(): Promise<void>;

  /** Returns the current numbers without querying the engine. */
  connections(): ConnectionCounts;

  /** Closes all connections after the running statements have finished. Idempotent. */
  close(): Promise<void>;
}

/** Error that the server returned for a statement, with its five-character SQLSTATE. */
export class DatabaseError extends Error {
  override readonly name = "DatabaseError";
  readonly sqlstate: string;
  readonly constraint: string | undefined;

  constructor(
    sqlstate: string,
    message: string,
    options: { constraint?: string | undefined; cause?: unknown },
  ) {
    super(message, { cause: options.cause });
    this.sqlstate = sqlstate;
    this.constraint = options.constraint;
  }
}
