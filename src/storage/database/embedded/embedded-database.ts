import { once } from "node:events";
import { existsSync } from "node:fs";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { Logger } from "../../../util/logger.ts";
import { StartupError } from "../../../util/startup-error.ts";
import { untilAborted } from "../../../util/wait.ts";
import type {
  ConnectionCounts,
  Database,
  DatabaseState,
  Parameter,
  Queryable,
  QueryOptions,
  Row,
  Statement,
} from "../database.ts";
import { databaseUnavailable, EngineLostError, mapDatabaseError, mapSentError, SQLSTATE } from "../errors.ts";
import { assertStatementName } from "../prepared-statements.ts";
import { type Connection, runTransaction, scope } from "../transaction.ts";
import { VectorTypes } from "../vector-types.ts";
import { wireValueFrom } from "../wire-values.ts";
import { assertUsableCluster, clusterOf, type DirectoryLock, lockDirectory } from "./directory-lock.ts";
import { type DiskWatch, freeBytesOf, watchDiskSpace } from "./disk-space.ts";
import type {
  EmbeddedCommand,
  EmbeddedFailure,
  EmbeddedRequest,
  EmbeddedResponse,
  EmbeddedValue,
  EmbeddedWorkerData,
  TextRows,
} from "./embedded-messages.ts";
import { ExclusiveQueue } from "./exclusive-queue.ts";

export interface EmbeddedOptions {
  /**
   * Data directory. It is created if it does not exist, and locked against other processes. Undefined keeps data in
   * memory.
   */
  readonly directory?: string | undefined;
  /** Dump to load, as returned by `dump()`. Only for data in memory. */
  readonly loadDataDir?: ArrayBuffer | undefined;
  /** Returns the free bytes for the data. Defaults to those of the directory's file system. */
  readonly freeBytes?: (() => number) | undefined;
  readonly logger: Logger;
}

export interface EmbeddedDatabase extends Database {
  /** Returns the data directory as a tar archive for `loadDataDir`. */
  dump(): Promise<ArrayBuffer>;
}

/**
 * Opens the embedded engine: PGlite (PostgreSQL 18 with pgvector and pg_textsearch) in a worker thread. It has one
 * connection, so statements and transactions run one after the other, in the order of the calls. Committed changes
 * survive a killed process, but not necessarily a power cut. While the disk is nearly full, the engine only reads.
 *
 * @throws StartupError if the directory is in use, is not writable, or belongs to another version of PostgreSQL.
 */
export async function openEmbeddedDatabase(options: EmbeddedOptions): Promise<EmbeddedDatabase> {
  const { directory, loadDataDir, logger } = options;
  const lock = directory === undefined ? undefined : lockDirectory(directory);
  try {
    const cluster = directory === undefined ? undefined : clusterOf(directory);
    if (cluster !== undefined && existsSync(cluster)) assertUsableCluster(cluster);
    const worker = await startWorker({ directory: cluster, dataDirectory: loadDataDir });
    const freeBytes =
      options.freeBytes ?? (directory === undefined ? undefined : () => freeBytesOf(directory));
    return new PgliteDatabase(worker, lock, freeBytes, logger);
  } catch (error) {
    lock?.release();
    if (error instanceof StartupError) throw error;
    throw openError(directory, error);
  }
}

/** Free space below which a failed start is attributed to a full disk. A new cluster alone takes 40 MB. */
const emptyDiskBytes = 40e6;

function openError(directory: string | undefined, error: unknown): StartupError {
  const where = directory === undefined ? "in memory" : `in ${directory}`;
  const problem = `cannot open the embedded database ${where}`;
  if (directory !== undefined && freeBytesOf(directory) < emptyDiskBytes) {
    return new StartupError(`${problem}: its disk is full`, {
      remedy: "free 100 MB or more, or set MEMORY_DATA_DIR to a directory on another disk",
      cause: error,
    });
  }
  // WebAssembly may throw values without a message.
  const reason = error instanceof Error && error.message ? error.message : "the engine failed at start";
  return new StartupError(`${problem}: ${reason}`, {
    remedy: "restore the directory from a backup, or set MEMORY_DATA_DIR to another one",
    cause: error,
  });
}

/** Time without a response after which the engine counts as unavailable. Building the largest index takes less. */
const longestStatementMs = 300_000;

/**
 * Stack size of the worker. PostgreSQL limits its recursion itself ("stack depth limit exceeded"). With the default of
 * 4 MB, the JavaScript stack would overflow first, which PostgreSQL does not survive. The size is address space, not
 * memory.
 */
const workerStackMb = 64;

async function startWorker(workerData: EmbeddedWorkerData): Promise<Worker> {
  // The worker is TypeScript when this file runs from source, and JavaScript when it is built.
  const file = new URL(`./embedded-worker${extname(import.meta.url)}`, import.meta.url);
  const worker = new Worker(file, {
    workerData,
    name: "embedded-database",
    resourceLimits: { stackSizeMb: workerStackMb },
  });
  const starting = new AbortController();
  try {
    // Also rejects if the worker fails, because `once` listens for errors.
    await Promise.race([
      once(worker, "message", { signal: starting.signal }),
      once(worker, "exit", { signal: starting.signal }).then(([code]) => {
        throw new Error(`the worker ended with code ${code}`);
      }),
    ]);
  } finally {
    starting.abort();
  }
  return worker;
}

interface Pending {
  readonly resolve: (value: EmbeddedValue) => void;
  readonly reject: (error: unknown) => void;
}

class PgliteDatabase implements EmbeddedDatabase {
  readonly engine = "embedded";
  readonly #worker: Worker;
  readonly #lock: DirectoryLock | undefined;
  readonly #logger: Logger;
  readonly #queue = new ExclusiveQueue();
  readonly #vectorTypes = new VectorTypes();
  readonly #connection = new WorkerConnection((command) => this.#call(command), this.#vectorTypes);
  readonly #pending = new Map<number, Pending>();
  readonly #diskWatch: DiskWatch | undefined;
  #diskLow = false;
  /** Time of the last message of the worker. */
  #respondedAt = performance.now();
  #nextId = 1;
  /** Reason why the engine no longer accepts statements. */
  #ended: { readonly message: string; readonly cause?: unknown } | undefined;
  #closed: Promise<void> | undefined;

  constructor(
    worker: Worker,
    lock: DirectoryLock | undefined,
    freeBytes: (() => number) | undefined,
    logger: Logger,
  ) {
    this.#worker = worker;
    this.#lock = lock;
    this.#logger = logger;
    this.#diskWatch = freeBytes && watchDiskSpace(freeBytes, (low) => void this.#setDiskLow(low));
    worker.on("message", (response: EmbeddedResponse) => this.#receive(response));
    worker.on("error", (error) => this.#crash(error));
    worker.on("exit", (code) =>
      this.#crash(new Error(`the worker of the embedded database ended with code ${code}`)),
    );
  }

  async query<R extends Row>(
    statement: Statement,
    parameters: readonly Parameter[] = [],
    options: QueryOptions = {},
  ): Promise<R[]> {
    try {
      return (await this.#send(statement, parameters, options.signal)) as R[];
    } catch (error) {
      options.signal?.throwIfAborted();
      throw mapSentError(error, statement.writes === true);
    }
  }

  /** Releases the queue as soon as the statement is sent to the worker, before its result arrives. */
  async #send(
    statement: Statement,
    parameters: readonly Parameter[],
    signal: AbortSignal | undefined,
  ): Promise<Row[]> {
    const release = await this.#acquire(signal);
    let answer: Promise<Row[]>;
    try {
      await untilAborted(this.#connection.waitForCapacity(), signal);
      answer = this.#connection.query(statement, parameters, signal);
    } finally {
      release();
    }
    return await answer;
  }

  async execute(script: string): Promise<void> {
    await this.#alone(undefined, async () => {
      try {
        await this.#connection.execute(script);
      } catch (error) {
        throw mapSentError(error, true);
      }
    });
  }

  async transaction<T>(work: (transaction: Queryable) => Promise<T>, options: QueryOptions = {}): Promise<T> {
    const release = await this.#acquire(options.signal);
    return await runTransaction(this.#connection, work, options.signal, release);
  }

  async session<T>(work: (session: Queryable) => Promise<T>, options: QueryOptions = {}): Promise<T> {
    return await this.#alone(options.signal, async () => {
      const scoped = scope(this.#connection, options.signal);
      try {
        return await work(scoped);
      } finally {
        scoped.close(new Error("the session has ended"));
        await this.#connection.idle();
        // Resets the connection, because the next caller uses it too.
        await this.#connection
          .execute(`rollback; select pg_advisory_unlock_all(); reset all; ${readOnly(this.#diskLow)}`)
          .catch((error: unknown) => this.#logger.warn({ err: error }, "cannot reset a session"));
      }
    });
  }

  async dump(): Promise<ArrayBuffer> {
    return await this.#alone(undefined, async () => {
      try {
        return (await this.#call({ kind: "dump" })) as ArrayBuffer;
      } catch (error) {
        throw mapDatabaseError(error);
      }
    });
  }

  async ping(timeoutMs: number): Promise<DatabaseState> {
    let timer: NodeJS.Timeout | undefined;
    const { promise: working, resolve: resolveWorking } = Promise.withResolvers<void>();
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        // A running statement cannot be interrupted, so a long one does not mean that the engine is unavailable.
        const silentMs = performance.now() - this.#respondedAt;
        if (this.#ended === undefined && silentMs < longestStatementMs) resolveWorking();
        else reject(databaseUnavailable(new Error("no response in time")));
      }, timeoutMs);
    });
    try {
      // Bypasses the queue, because a long queue does not mean that the engine is unavailable.
      const responded = this.#call({ kind: "ping" });
      responded.catch(() => undefined);
      await Promise.race([responded, working, timeout]);
      return { writable: !this.#diskLow };
    } catch (error) {
      throw databaseUnavailable(error);
    } finally {
      clearTimeout(timer);
    }
  }

  async registerVectorTypes(): Promise<void> {
    await this.#vectorTypes.register(this);
  }

  connections(): ConnectionCounts {
    const total = this.#ended === undefined ? 1 : 0;
    return { total, idle: this.#queue.held ? 0 : total, waiting: this.#queue.waiting };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#diskWatch?.stop();
    const release = await this.#queue.acquire();
    await this.#connection.idle();
    if (this.#ended === undefined) {
      const exited = new Promise<void>((resolve) => this.#worker.once("exit", () => resolve()));
      const closed = this.#call({ kind: "close" });
      this.#ended = { message: "the database is closed" };
      await closed.catch((error: unknown) =>
        this.#logger.warn({ err: error }, "the embedded database did not close cleanly"),
      );
      await exited;
    }
    release();
    this.#lock?.release();
  }

  async #setDiskLow(low: boolean): Promise<void> {
    this.#diskLow = low;
    if (low)
      this.#logger.error(
        "the disk of the embedded database is nearly full; free space to store memories again",
      );
    else this.#logger.info("the disk of the embedded database has enough space again");
    await this.execute(readOnly(low)).catch((error: unknown) => {
      this.#logger.warn({ err: error }, "cannot change whether the embedded database accepts changes");
    });
  }

  async #acquire(signal: AbortSignal | undefined): Promise<() => void> {
    this.#assertAlive();
    const release = await this.#queue.acquire(signal);
    if (this.#ended !== undefined) {
      release();
      this.#assertAlive();
    }
    return release;
  }

  /**
   * Runs `work` exclusively. If the signal is aborted, it rejects at once, and the queue continues after the statement.
   */
  async #alone<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const release = await this.#acquire(signal);
    try {
      return await work();
    } finally {
      if (this.#connection.busy) void this.#connection.idle().then(release);
      else release();
    }
  }

  #assertAlive(): void {
    if (this.#ended !== undefined) throw databaseUnavailable(this.#ended.cause, this.#ended.message);
  }

  #call(command: EmbeddedCommand): Promise<EmbeddedValue> {
    return new Promise((resolve, reject) => {
      this.#assertAlive();
      const id = this.#nextId++;
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ id, command } satisfies EmbeddedRequest);
    });
  }

  #receive(response: EmbeddedResponse): void {
    if ("broken" in response) this.#crash(new EmbeddedError(response.broken));
    if (!("id" in response)) return;
    this.#respondedAt = performance.now();
    const pending = this.#pending.get(response.id);
    this.#pending.delete(response.id);
    if ("failure" in response) pending?.reject(new EmbeddedError(this.#reasonOf(response.failure)));
    else pending?.resolve(response.value);
  }

  /** Replaces the error of a read-only transaction by one of a full disk, its only cause in this engine. */
  #reasonOf(failure: EmbeddedFailure): EmbeddedFailure {
    const refused = this.#diskLow && failure.code === SQLSTATE.readOnlyTransaction;
    return refused ? { ...failure, code: SQLSTATE.diskFull } : failure;
  }

  #crash(error: unknown): void {
    this.#diskWatch?.stop();
    if (this.#ended === undefined) {
      this.#ended = { message: "the embedded database has stopped; restart the service", cause: error };
      this.#logger.error({ err: error }, "the embedded database has stopped");
    }
    const lost = new EngineLostError("the embedded database has stopped", { cause: error });
    for (const { reject } of this.#pending.values()) reject(lost);
    this.#pending.clear();
  }
}

function readOnly(on: boolean): string {
  return `set default_transaction_read_only = ${on ? "on" : "off"}`;
}

/** Error of the embedded PostgreSQL, with the same properties as an error of node-postgres. */
class EmbeddedError extends Error {
  override readonly name = "EmbeddedError";
  readonly code: string | undefined;
  readonly severity: string | undefined;
  readonly constraint: string | undefined;
  readonly detail: string | undefined;

  constructor(failure: EmbeddedFailure) {
    super(failure.message);
    this.code = failure.code;
    this.severity = failure.severity;
    this.constraint = failure.constraint;
    this.detail = failure.detail;
  }
}

/**
 * Maximum number of statements at the worker: one that runs and the next one, so that the worker does not wait for the
 * main thread between them. More would delay aborts, because a statement that has been sent cannot be withdrawn.
 */
const MAX_IN_FLIGHT = 2;

/**
 * The only connection of the engine. The worker responds in order, so a statement may be sent before the previous one
 * ends.
 */
class WorkerConnection implements Connection {
  readonly #call: (command: EmbeddedCommand) => Promise<EmbeddedValue>;
  readonly #vectorTypes: VectorTypes;
  readonly #running = new Set<Promise<unknown>>();

  constructor(call: (command: EmbeddedCommand) => Promise<EmbeddedValue>, vectorTypes: VectorTypes) {
    this.#call = call;
    this.#vectorTypes = vectorTypes;
  }

  get busy(): boolean {
    return this.#running.size > 0;
  }

  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }

  /** Waits until another statement may be sent. */
  async waitForCapacity(): Promise<void> {
    while (this.#running.size >= MAX_IN_FLIGHT) await Promise.race(this.#running).catch(() => {});
  }

  async query(statement: Statement, parameters: readonly Parameter[], signal?: AbortSignal): Promise<Row[]> {
    signal?.throwIfAborted();
    const values = parameters.map((parameter) => ownBytes(wireValueFrom(parameter)));
    const { text, name } = statement;
    if (name !== undefined) assertStatementName(name);
    const answer = this.#track(this.#call({ kind: "query", text, name, values }));
    // A running statement cannot be cancelled; its result is discarded.
    return rowsFrom((await untilAborted(answer, signal)) as TextRows, this.#vectorTypes);
  }

  async execute(script: string): Promise<string> {
    return (await this.#track(this.#call({ kind: "execute", script }))) as string;
  }

  async #track<T>(answer: Promise<T>): Promise<T> {
    this.#running.add(answer);
    try {
      return await answer;
    } finally {
      this.#running.delete(answer);
    }
  }
}

function rowsFrom({ columns, rows }: TextRows, vectorTypes: VectorTypes): Row[] {
  const readers = columns.map(({ name, oid }) => ({ name, parse: vectorTypes.parserOf(oid) }));
  return rows.map((values) =>
    Object.fromEntries(
      readers.map(({ name, parse }, column) => {
        const value = values[column] ?? null;
        return [name, value === null ? null : parse(value)];
      }),
    ),
  );
}

/** Copies bytes that are part of a larger buffer, because a message would otherwise contain the whole buffer. */
function ownBytes<T>(value: T): T | Uint8Array {
  return value instanceof Uint8Array && value.byteLength !== value.buffer.byteLength
    ? new Uint8Array(value)
    : value;
}
