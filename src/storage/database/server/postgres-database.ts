import pg from "pg";
import type { Logger } from "../../../util/logger.ts";
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
import { databaseOverloaded, databaseUnavailable, mapDatabaseError, mapSentError } from "../errors.ts";
import { runTransaction, scope } from "../transaction.ts";
import { VectorTypes } from "../vector-types.ts";
import { connectionSettings } from "./connection-settings.ts";
import { PostgresConnection } from "./postgres-connection.ts";

/**
 * Address of the server. A connection string may contain `sslmode`, `options` and all else that node-postgres supports.
 */
export type PostgresAddress =
  | { readonly connectionString: string }
  | {
      /** Host name, address, or directory of a Unix socket. */
      readonly host: string;
      readonly port: number;
      readonly database: string;
      readonly user: string;
      readonly password?: string | undefined;
    };

export interface PostgresOptions {
  readonly connection: PostgresAddress;
  /** Maximum number of connections, in addition to one for `ping`. Defaults to 10. */
  readonly poolSize?: number;
  /** Time limit of a statement, which then fails with DEADLINE_EXCEEDED. 0 is no limit. Defaults to 30,000. */
  readonly statementTimeoutMs?: number;
  /** Time limit for waiting for a free connection, which then fails with OVERLOADED. Defaults to 2,000. */
  readonly poolWaitMs?: number;
  /** Time limit for opening a connection, after which the database counts as unavailable. Defaults to 5,000. */
  readonly connectTimeoutMs?: number;
  /**
   * Prepares named statements on each connection. Defaults to true. Disable it behind a PgBouncer in transaction mode
   * that does not support prepared statements. Such a PgBouncer also needs `ignore_startup_parameters = options`, and
   * the database needs the settings of connection-settings.ts through `alter database ... set`.
   */
  readonly preparedStatements?: boolean;
  readonly logger: Logger;
}

/**
 * Time after which an unused connection is closed. Opening one takes a few milliseconds and a process on the server.
 */
const idleTimeoutMs = 60_000;

const defaultStatementTimeoutMs = 30_000;

/** Time after the limit of a statement at which its connection is closed if the server has not responded. */
const silenceGraceMs = 5_000;

/**
 * Creates a pool of connections to a PostgreSQL server. It does not connect, so it succeeds even if the server is
 * unreachable. `checkServer` (check-server.ts) connects and checks the server.
 */
export async function openPostgresDatabase(options: PostgresOptions): Promise<Database> {
  return new PostgresDatabase(options);
}

interface Lease {
  readonly connection: PostgresConnection;
  /** Returns the connection to the pool as soon as no statement runs on it. */
  release(): void;
}

class PostgresDatabase implements Database {
  readonly engine = "postgres";
  readonly #pool: pg.Pool;
  /** Separate pool of one connection, so that a ping also succeeds while all other connections are busy. */
  readonly #pingPool: pg.Pool;
  readonly #poolSize: number;
  readonly #poolWaitMs: number;
  readonly #connections = new Map<pg.Client, PostgresConnection>();
  readonly #vectorTypes = new VectorTypes();
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;

  constructor(options: PostgresOptions) {
    const { logger, preparedStatements = true, statementTimeoutMs = defaultStatementTimeoutMs } = options;
    const silenceMs = statementTimeoutMs === 0 ? undefined : statementTimeoutMs + silenceGraceMs;
    this.#poolSize = options.poolSize ?? 10;
    this.#poolWaitMs = options.poolWaitMs ?? 2_000;
    const config = poolConfigFrom(options, this.#vectorTypes);
    this.#pool = new pg.Pool({ ...config, max: this.#poolSize });
    this.#pool.on("connect", (client) => {
      const retire = () => this.#retireConnections();
      const connection = new PostgresConnection(client, preparedStatements, retire, silenceMs);
      this.#connections.set(client, connection);
      // The pool listens only while the client is idle, and an "error" event without a listener would end the process.
      client.on("error", () => connection.markBroken());
    });
    this.#pool.on("remove", (client) => this.#connections.delete(client));
    this.#pingPool = new pg.Pool({ ...config, max: 1 });
    this.#pingPool.on("connect", (client) => void client.on("error", () => undefined));
    for (const pool of [this.#pool, this.#pingPool]) {
      // Without a listener, a restart of the server would end this process.
      pool.on("error", (error) => logger.warn({ err: error }, "lost an idle database connection"));
    }
  }

  async query<R extends Row>(
    statement: Statement,
    parameters: readonly Parameter[] = [],
    options: QueryOptions = {},
  ): Promise<R[]> {
    const lease = await this.#acquire(options.signal);
    try {
      return (await lease.connection.query(statement, parameters, options.signal)) as R[];
    } catch (error) {
      options.signal?.throwIfAborted();
      throw mapSentError(error, statement.writes === true);
    } finally {
      lease.release();
    }
  }

  async execute(script: string): Promise<void> {
    const lease = await this.#acquire(undefined);
    try {
      await lease.connection.execute(script);
    } catch (error) {
      throw mapSentError(error, true);
    } finally {
      lease.release();
    }
  }

  async transaction<T>(work: (transaction: Queryable) => Promise<T>, options: QueryOptions = {}): Promise<T> {
    const lease = await this.#acquire(options.signal);
    return await runTransaction(lease.connection, work, options.signal, lease.release);
  }

  async session<T>(work: (session: Queryable) => Promise<T>, options: QueryOptions = {}): Promise<T> {
    const lease = await this.#acquire(options.signal);
    lease.connection.allowSilence();
    const scoped = scope(lease.connection, options.signal);
    try {
      return await work(scoped);
    } finally {
      scoped.close(new Error("the session has ended"));
      // Sessions are rare. Closing the connection is the safest way to discard all settings and locks.
      lease.connection.markBroken();
      lease.release();
    }
  }

  async ping(timeoutMs: number): Promise<DatabaseState> {
    let client: pg.PoolClient | undefined;
    let timedOut = false;
    const release = (broken: boolean) => {
      client?.release(broken);
      client = undefined;
    };
    const ask = async (): Promise<DatabaseState> => {
      client = await this.#pingPool.connect();
      if (timedOut) release(false);
      if (client === undefined) throw new Error("no response in time");
      let writable = false;
      try {
        const { rows } = await client.query<{ transaction_read_only: string }>("show transaction_read_only");
        writable = rows[0]?.transaction_read_only === "off";
        if (!writable) this.#retireConnections();
        return { writable };
      } finally {
        release(!writable);
      }
    };
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        timedOut = true;
        release(true);
        reject(databaseUnavailable(new Error("no response in time")));
      }, timeoutMs);
    });
    try {
      const responded = ask();
      responded.catch(() => undefined);
      return await Promise.race([responded, timeout]);
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
    const { totalCount, idleCount, waitingCount } = this.#pool;
    return { total: totalCount, idle: idleCount, waiting: waitingCount };
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      this.#closing.abort();
      await Promise.all([this.#pool.end(), this.#pingPool.end()]);
    })();
    return this.#closed;
  }

  #acquire(signal: AbortSignal | undefined): Promise<Lease> {
    return new Promise<Lease>((resolve, reject) => {
      if (signal?.aborted) throw signal.reason;
      if (this.#closing.signal.aborted) throw databaseUnavailable(undefined, "the database is closed");
      let waiting = true;
      const settle = () => {
        waiting = false;
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        this.#closing.signal.removeEventListener("abort", onClosing);
      };
      const fail = (error: unknown) => {
        settle();
        reject(error);
      };
      const onAbort = () => fail(signal?.reason);
      const onClosing = () => fail(databaseUnavailable(undefined, "the database is closed"));
      const timer = setTimeout(() => {
        // With fewer connections, the pool is still connecting and has its own time limit for an unavailable database.
        if (this.#connections.size >= this.#poolSize) fail(databaseOverloaded());
      }, this.#poolWaitMs);
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#closing.signal.addEventListener("abort", onClosing, { once: true });
      const take = async (): Promise<void> => {
        const client = await this.#pool.connect();
        if (!waiting) return client.release();
        if (this.#connections.get(client)?.broken) {
          client.release(true);
          return await take();
        }
        settle();
        resolve(this.#leaseOf(client));
      };
      take().catch((error: unknown) => {
        if (!waiting) return;
        const full = this.#connections.size >= this.#poolSize && isPoolTimeout(error);
        fail(full ? databaseOverloaded(error) : connectError(error));
      });
    });
  }

  /** Replaces all connections after the server has become a standby. New ones may reach the new primary. */
  #retireConnections(): void {
    for (const connection of this.#connections.values()) connection.markBroken();
  }

  #leaseOf(client: pg.PoolClient): Lease {
    const connection = this.#connections.get(client);
    if (connection === undefined) throw new Error("the pool returned an unknown client");
    const giveBack = () => client.release(connection.broken);
    return {
      connection,
      release: () => {
        if (connection.busy) void connection.idle().then(giveBack);
        else giveBack();
      },
    };
  }
}

function isPoolTimeout(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("timeout exceeded");
}

/** Maps any error of opening a connection to DATABASE_UNAVAILABLE, unless the server has too many connections. */
function connectError(error: unknown): Error {
  const mapped = mapDatabaseError(error);
  return mapped.name === "ServiceError" && "reason" in mapped && mapped.reason === "OVERLOADED"
    ? mapped
    : databaseUnavailable(error);
}

function poolConfigFrom(options: PostgresOptions, vectorTypes: VectorTypes): pg.PoolConfig {
  const settings = {
    ...connectionSettings,
    statement_timeout: String(options.statementTimeoutMs ?? defaultStatementTimeoutMs),
  };
  const flags = Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(" ");
  return {
    ...addressConfigFrom(options.connection, flags),
    application_name: "memory-service",
    connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
    idleTimeoutMillis: idleTimeoutMs,
    keepAlive: true,
    types: {
      getTypeParser: ((oid: number) =>
        vectorTypes.parserOf(oid)) as unknown as pg.CustomTypesConfig["getTypeParser"],
    },
  };
}

function addressConfigFrom(address: PostgresAddress, flags: string): pg.PoolConfig {
  if (!("connectionString" in address)) {
    const { host, port, database, user, password } = address;
    return { host, port, database, user, ...(password === undefined ? {} : { password }), options: flags };
  }
  // In node-postgres, `options` in the string would replace ours. The operator's come last, so they take precedence.
  const { connectionString } = address;
  if (!URL.canParse(connectionString)) return { connectionString, options: flags };
  const url = new URL(connectionString);
  const operatorFlags = url.searchParams.get("options");
  if (operatorFlags === null) return { connectionString, options: flags };
  url.searchParams.delete("options");
  return { connectionString: url.href, options: `${flags} ${operatorFlags}` };
}
