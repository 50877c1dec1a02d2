import pg from "pg";
import type { Logger } from "../../util/logger.ts";
import { connectionSettings } from "./connection-settings.ts";
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
import { databaseOverloaded, databaseUnavailable, mapDatabaseError, mapSentError } from "./errors.ts";
import { PostgresConnection } from "./postgres-connection.ts";
import { lend, runTransaction } from "./transaction.ts";
import { VectorTypes } from "./vector-types.ts";

/** Where the server is. A connection string may carry `sslmode`, `options` and the rest that node-postgres reads. */
export type PostgresAddress =
  | { readonly connectionString: string }
  | {
      /** Host name, address, or the directory of a Unix socket. */
      readonly host: string;
      readonly port: number;
      readonly database: string;
      readonly user: string;
      readonly password?: string | undefined;
    };

export interface PostgresOptions {
  readonly connection: PostgresAddress;
  /** Connections at most, beside one that `ping` opens for itself. Default 10. */
  readonly poolSize?: number;
  /** After this the server ends a statement: DEADLINE_EXCEEDED. 0 is never. Default 30,000. */
  readonly statementTimeoutMs?: number;
  /** How long a caller waits for a free connection before it hears OVERLOADED. Default 2,000. */
  readonly poolWaitMs?: number;
  /** How long opening a connection may take before the database counts as away. Default 5,000. */
  readonly connectTimeoutMs?: number;
  /**
   * Keeps named statements prepared on their connection. Default true. Switch it off behind a PgBouncer in
   * transaction mode that does not know them; there, `ignore_startup_parameters = options` is needed as well, and
   * the settings of connection-settings.ts belong into `alter database ... set`.
   */
  readonly preparedStatements?: boolean;
  readonly logger: Logger;
}

/** Unused connections close after this; opening one costs a few milliseconds and a server process. */
const idleTimeoutMs = 60_000;

const defaultStatementTimeoutMs = 30_000;

/** How much later than the server should have ended a statement its connection is cut. */
const silenceGraceMs = 5_000;

/**
 * Opens a pool of connections to a PostgreSQL server. It does not connect yet, so it does not fail if the server
 * is away: `checkServer` (check-server.ts) does both.
 */
export async function openPostgresDatabase(options: PostgresOptions): Promise<Database> {
  return new PostgresDatabase(options);
}

interface Lease {
  readonly connection: PostgresConnection;
  /** Gives the connection back as soon as nothing runs on it. */
  release(): void;
}

class PostgresDatabase implements Database {
  readonly engine = "postgres";
  readonly #pool: pg.Pool;
  /** Of one connection: a database with every connection busy is not away. */
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
      // The pool listens only while the client is idle; an error event without a listener ends the process.
      client.on("error", () => connection.markBroken());
    });
    this.#pool.on("remove", (client) => this.#connections.delete(client));
    this.#pingPool = new pg.Pool({ ...config, max: 1 });
    this.#pingPool.on("connect", (client) => void client.on("error", () => undefined));
    for (const pool of [this.#pool, this.#pingPool]) {
      // Without a listener the restart of a server would end the process.
      pool.on("error", (error) => logger.warn({ err: error }, "an idle database connection was lost"));
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
    const lent = lend(lease.connection, options.signal);
    try {
      return await work(lent);
    } finally {
      lent.close(new Error("the session has ended"));
      // Sessions are rare; a new connection is the surest way to leave no setting and no lock behind.
      lease.connection.markBroken();
      lease.release();
    }
  }

  async ping(timeoutMs: number): Promise<DatabaseState> {
    let lent: pg.PoolClient | undefined;
    let late = false;
    const giveBack = (broken: boolean) => {
      lent?.release(broken);
      lent = undefined;
    };
    const ask = async (): Promise<DatabaseState> => {
      lent = await this.#pingPool.connect();
      if (late) giveBack(false);
      if (lent === undefined) throw new Error("no answer in time");
      let writable = false;
      try {
        const { rows } = await lent.query<{ transaction_read_only: string }>("show transaction_read_only");
        writable = rows[0]?.transaction_read_only === "off";
        if (!writable) this.#retireConnections();
        return { writable };
      } finally {
        giveBack(!writable);
      }
    };
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        late = true;
        giveBack(true);
        reject(databaseUnavailable(new Error("no answer in time")));
      }, timeoutMs);
    });
    try {
      const answered = ask();
      answered.catch(() => undefined);
      return await Promise.race([answered, tooLate]);
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
        // With fewer the pool is still connecting; its own time-out tells a database that is away.
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

  /** For a server that has become a standby: new connections may reach the one that has taken over. */
  #retireConnections(): void {
    for (const connection of this.#connections.values()) connection.markBroken();
  }

  #leaseOf(client: pg.PoolClient): Lease {
    const connection = this.#connections.get(client);
    if (connection === undefined) throw new Error("the pool lent a client that it never connected");
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

/** Whatever keeps a connection from being made, the database is away; the cause says why. */
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
  // In node-postgres the string's `options` would replace ours; the operator's come last and so prevail.
  const { connectionString } = address;
  if (!URL.canParse(connectionString)) return { connectionString, options: flags };
  const url = new URL(connectionString);
  const theirs = url.searchParams.get("options");
  if (theirs === null) return { connectionString, options: flags };
  url.searchParams.delete("options");
  return { connectionString: url.href, options: `${flags} ${theirs}` };
}
