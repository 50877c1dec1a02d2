import { once } from "node:events";
import { existsSync } from "node:fs";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { Logger } from "../../util/logger.ts";
import { StartupError } from "../../util/startup-error.ts";
import { untilAborted } from "../../util/wait.ts";
import type {
  ConnectionCounts,
  Database,
  DatabaseState,
  Parameter,
  Queryable,
  QueryOptions,
  Row,
  Statement,
} from "./database.ts";
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
import { databaseUnavailable, EngineLostError, mapDatabaseError, mapSentError, SQLSTATE } from "./errors.ts";
import { ExclusiveQueue } from "./exclusive-queue.ts";
import { assertStatementName } from "./prepared-statements.ts";
import { type Connection, lend, runTransaction } from "./transaction.ts";
import { VectorTypes } from "./vector-types.ts";
import { wireValueFrom } from "./wire-values.ts";

export interface EmbeddedOptions {
  /** Where the data lives; made if missing, locked against other processes. Undefined keeps it in memory. */
  readonly directory?: string | undefined;
  /** A dump to begin with, as `dump()` gave it; only in memory. */
  readonly loadDataDir?: ArrayBuffer | undefined;
  /** How many bytes are free for the data; by default those of the directory's file system. */
  readonly freeBytes?: (() => number) | undefined;
  readonly logger: Logger;
}

export interface EmbeddedDatabase extends Database {
  /** The whole data directory as a tar archive, for `loadDataDir`. */
  dump(): Promise<ArrayBuffer>;
}

/**
 * Opens the embedded engine: PGlite (PostgreSQL 18 with pgvector and pg_textsearch) in a worker thread. It has
 * one connection, so statements and transactions run one after the other in the order of asking. Killing the
 * process loses nothing that was committed; a power cut may. While its disk is nearly full it only reads.
 *
 * @throws StartupError if the directory is in use, cannot be written or belongs to another PostgreSQL version.
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

/** Below this, what fails fails for want of room: PostgreSQL's first files alone are 40 MB. */
const emptyDiskBytes = 40e6;

function openError(directory: string | undefined, error: unknown): StartupError {
  const where = directory === undefined ? "in memory" : `in ${directory}`;
  const what = `the embedded database ${where} could not be opened`;
  if (directory !== undefined && freeBytesOf(directory) < emptyDiskBytes) {
    return new StartupError(`${what}: its disk is full`, {
      remedy: "free 100 MB or more, or set MEMORY_DATA_DIR to a directory on another disk",
      cause: error,
    });
  }
  // WebAssembly also throws what has no message.
  const reason = error instanceof Error && error.message ? error.message : "the engine failed at start";
  return new StartupError(`${what}: ${reason}`, {
    remedy: "restore the directory from a backup, or set MEMORY_DATA_DIR to another one",
    cause: error,
  });
}

/** An engine that is silent for longer counts as away; the largest index of a domain is made in less. */
const longestStatementMs = 300_000;

/**
 * PostgreSQL bounds its own recursion ("stack depth limit exceeded"). In the usual 4 MB JavaScript's stack ends
 * before that, in the middle of PostgreSQL, which does not survive it. Address space, not memory.
 */
const workerStackMb = 64;

async function startWorker(workerData: EmbeddedWorkerData): Promise<Worker> {
  // Beside this file, in TypeScript when run from source and in JavaScript when built.
  const file = new URL(`./embedded-worker${extname(import.meta.url)}`, import.meta.url);
  const worker = new Worker(file, {
    workerData,
    name: "embedded-database",
    resourceLimits: { stackSizeMb: workerStackMb },
  });
  const starting = new AbortController();
  try {
    // Rejects if the worker fails: `once` listens for errors too.
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
  /** When the worker has last said anything. */
  #answeredAt = performance.now();
  #nextId = 1;
  /** Why nothing can run any more. */
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

  /** Gives the turn away when the statement is at the worker, before its answer. */
  async #send(
    statement: Statement,
    parameters: readonly Parameter[],
    signal: AbortSignal | undefined,
  ): Promise<Row[]> {
    const release = await this.#acquire(signal);
    let answer: Promise<Row[]>;
    try {
      await untilAborted(this.#connection.hasRoom(), signal);
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
      const lent = lend(this.#connection, options.signal);
      try {
        return await work(lent);
      } finally {
        lent.close(new Error("the session has ended"));
        await this.#connection.idle();
        // The next one gets the same connection.
        await this.#connection
          .execute(`rollback; select pg_advisory_unlock_all(); reset all; ${readOnly(this.#diskLow)}`)
          .catch((error: unknown) => this.#logger.warn({ err: error }, "a session could not be reset"));
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
    const { promise: working, resolve: atWork } = Promise.withResolvers<void>();
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        // Nothing interrupts a statement: that it takes its time is no absence.
        const quietMs = performance.now() - this.#answeredAt;
        if (this.#ended === undefined && quietMs < longestStatementMs) atWork();
        else reject(databaseUnavailable(new Error("no answer in time")));
      }, timeoutMs);
    });
    try {
      // Past the queue: a long queue is load, not absence.
      const answered = this.#call({ kind: "ping" });
      answered.catch(() => undefined);
      await Promise.race([answered, working, tooLate]);
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
      const answered = this.#call({ kind: "close" });
      this.#ended = { message: "the database is closed" };
      await answered.catch((error: unknown) =>
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
        "the disk of the embedded database is nearly full: nothing is stored until there is room",
      );
    else this.#logger.info("the disk of the embedded database has room again");
    await this.execute(readOnly(low)).catch((error: unknown) => {
      this.#logger.warn({ err: error }, "the embedded database could not be told about its disk");
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

  /** Rejects early if the signal is aborted; the queue goes on when what runs has ended. */
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
    this.#answeredAt = performance.now();
    const pending = this.#pending.get(response.id);
    this.#pending.delete(response.id);
    if ("failure" in response) pending?.reject(new EmbeddedError(this.#reasonOf(response.failure)));
    else pending?.resolve(response.value);
  }

  /** Nothing else makes this engine read-only. */
  #reasonOf(failure: EmbeddedFailure): EmbeddedFailure {
    const refused = this.#diskLow && failure.code === SQLSTATE.readOnlyTransaction;
    return refused ? { ...failure, code: SQLSTATE.diskFull } : failure;
  }

  #crash(error: unknown): void {
    this.#diskWatch?.stop();
    if (this.#ended === undefined) {
      this.#ended = { message: "the embedded database has stopped: restart the service", cause: error };
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

/** An error of the worker's PostgreSQL with the properties that node-postgres gives its own. */
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
 * Statements at the worker: one that runs, and one that is at hand when it ends, so that the worker need not wait for the
 * main thread between them. What has been sent cannot be taken back, so no more.
 */
const MAX_UNDER_WAY = 2;

/** The engine's one connection. The worker answers in order, so statements may be sent before earlier ones end. */
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

  /** Waits until one more statement may be sent. */
  async hasRoom(): Promise<void> {
    while (this.#running.size >= MAX_UNDER_WAY) await Promise.race(this.#running).catch(() => {});
  }

  async query(statement: Statement, parameters: readonly Parameter[], signal?: AbortSignal): Promise<Row[]> {
    signal?.throwIfAborted();
    const values = parameters.map((parameter) => ownBytes(wireValueFrom(parameter)));
    const { text, name } = statement;
    if (name !== undefined) assertStatementName(name);
    const answer = this.#track(this.#call({ kind: "query", text, name, values }));
    // A running statement cannot be stopped: its result is dropped.
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

/** Bytes without the rest of a larger memory they may be a part of, which a message would carry along. */
function ownBytes<T>(value: T): T | Uint8Array {
  return value instanceof Uint8Array && value.byteLength !== value.buffer.byteLength
    ? new Uint8Array(value)
    : value;
}
