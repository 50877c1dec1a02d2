/**
 * The seam between the repository and its engine: a `pg` pool on a PostgreSQL server, or PGlite in a worker
 * thread. Both give the same values: `int8` as bigint, `jsonb` parsed, `bytea` as Uint8Array, `timestamptz`
 * never (statements convert times to microseconds in SQL: a Date would cut them to milliseconds).
 */

/** A value for `$n`. A Float32Array is sent as a pgvector `vector` in binary, a Uint8Array as `bytea`. */
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

/** A parameterised statement. */
export interface Statement {
  readonly text: string;
  /** Prepares the statement under this name, once a connection. At most 63 bytes, or it is refused. Without: planned every time. */
  readonly name?: string;
  /**
   * True if the statement changes or locks rows, directly or in a function, so that a read-only transaction would refuse it.
   * If the connection is lost while such a statement runs outside a transaction, its outcome is unknown.
   */
  readonly writes?: true;
}

export interface QueryOptions {
  /** Leaving early cancels the statement on the server where the engine can; the promise rejects at once. */
  readonly signal?: AbortSignal | undefined;
}

export interface Queryable {
  /**
   * Runs one statement and returns its rows.
   *
   * @throws ServiceError with the reasons of src/storage/database/errors.ts (DATABASE_UNAVAILABLE, CONFLICT,
   * OVERLOADED, ...); DatabaseError, with its SQLSTATE, for what the caller has to interpret (unique violation,
   * undefined table ...).
   */
  query<R extends Row = Row>(
    statement: Statement,
    parameters?: readonly Parameter[],
    options?: QueryOptions,
  ): Promise<R[]>;

  /** Runs a script of one or more statements without parameters. Every script counts as one that writes. */
  execute(script: string): Promise<void>;
}

/** What a database that answers can do. */
export interface DatabaseState {
  /** False: it reads only, as a standby does, and the embedded engine while its disk is nearly full. */
  readonly writable: boolean;
}

/** How busy the connections of a database are. */
export interface ConnectionCounts {
  /** Open connections; the embedded engine has one. */
  readonly total: number;
  /** Those that nobody uses. */
  readonly idle: number;
  /** Statements and transactions that wait for one. */
  readonly waiting: number;
}

export interface Database extends Queryable {
  readonly engine: "embedded" | "postgres";

  /**
   * Runs `work` in one read-committed transaction; commits if it resolves and rolls back if it rejects. Never
   * await the outside world in it: the embedded engine has a single connection. The signal ends it with a
   * rollback until the commit has begun; a commit is never interrupted.
   *
   * @throws ServiceError OUTCOME_UNKNOWN if the connection was lost while committing.
   */
  transaction<T>(work: (transaction: Queryable) => Promise<T>, options?: QueryOptions): Promise<T>;

  /**
   * Lends one connection to `work` alone, without a transaction: for session settings, advisory locks that
   * outlive a transaction and statements that refuse to run in one. Settings made and locks taken in it end
   * with it. The same warning as for a transaction: on the embedded engine everybody else waits.
   */
  session<T>(work: (session: Queryable) => Promise<T>, options?: QueryOptions): Promise<T>;

  /**
   * Resolves if the engine answers within `timeoutMs`, or is seen to be at work. Callers that wait for a connection do
   * not delay it.
   *
   * @throws ServiceError DATABASE_UNAVAILABLE.
   */
  ping(timeoutMs: number): Promise<DatabaseState>;

  /**
   * Returns values of pgvector's types `vector` and `halfvec` as arrays of numbers from now on. Before, they are text. Call
   * it when the extension exists, and again if it has been recreated.
   *
   * @throws Error if the extension does not exist.
   */
  registerVectorTypes(): Promise<void>;

  /** For metrics: the state of this moment, without asking the engine. */
  connections(): ConnectionCounts;

  /** Ends every connection, after what runs has finished. Idempotent. */
  close(): Promise<void>;
}

/** An error the server gave for a statement, with its five-character SQLSTATE. */
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
