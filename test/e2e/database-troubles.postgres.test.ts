import { Code, ConnectError } from "@connectrpc/connect";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ErrorInfoSchema, RetryInfoSchema } from "../../src/generated/google/rpc/error_details_pb.ts";
import type { ServerData } from "../support/postgres/data-directory.ts";
import { postgresServers } from "../support/server/server-engines.ts";
import { openGrpcClient, type ServerProcess, startServerProcess } from "../support/server/server-process.ts";

interface Trouble {
  readonly name: string;
  /** SQL that an administrator runs in another database; `%d` is the database, `%r` the role of the server. */
  readonly begin: readonly string[];
  readonly end: readonly string[];
  /** Whether open connections continue to work. */
  readonly cut: boolean;
  readonly code: Code;
  readonly reason: string;
  /** Whether the error includes a retry delay. */
  readonly retry: boolean;
  /** The error of a read while the trouble lasts; undefined: reads succeed. */
  readonly reading: Code | undefined;
  readonly ready: number;
}

const TROUBLES: readonly Trouble[] = [
  {
    name: "has become a standby",
    begin: ["alter database %d set default_transaction_read_only = on"],
    end: ["alter database %d reset default_transaction_read_only"],
    cut: true,
    code: Code.Unavailable,
    reason: "DATABASE_UNAVAILABLE",
    retry: true,
    reading: undefined,
    ready: 200,
  },
  {
    name: "refuses all connections",
    begin: ["alter database %d with allow_connections false"],
    end: ["alter database %d with allow_connections true"],
    cut: true,
    code: Code.Unavailable,
    reason: "DATABASE_UNAVAILABLE",
    retry: true,
    reading: Code.Unavailable,
    ready: 503,
  },
  {
    name: "is out of connections",
    begin: ["alter role %r connection limit 0"],
    end: ["alter role %r connection limit -1"],
    cut: true,
    code: Code.ResourceExhausted,
    reason: "OVERLOADED",
    retry: true,
    reading: Code.ResourceExhausted,
    ready: 503,
  },
  {
    name: "refuses the login of the server",
    begin: ["alter role %r nologin"],
    end: ["alter role %r login"],
    cut: true,
    code: Code.Unavailable,
    reason: "DATABASE_UNAVAILABLE",
    retry: true,
    reading: Code.Unavailable,
    ready: 503,
  },
];

describe.each(postgresServers())("on $name, while the database", ({ url, create }) => {
  const role = `rob_${crypto.randomUUID().replaceAll("-", "")}`;
  let data: ServerData & { readonly url: string };
  let server: ServerProcess;
  let connection: ReturnType<typeof openGrpcClient>;
  let admin: pg.Client;
  let name: string;

  beforeAll(async () => {
    data = await create();
    name = new URL(data.url).pathname.slice(1);
    admin = new pg.Client({ connectionString: url });
    await admin.connect();
    await admin.query(`create role ${role} login password 'secret'`);
    await admin.query(`alter database ${name} owner to ${role}`);
    await within(data.url, "create extension vector");
    const own = new URL(data.url);
    own.username = role;
    own.password = "secret";
    server = await startServerProcess({ env: { DATABASE_URL: own.href } });
    connection = openGrpcClient(server.url);
  }, 60_000);
  afterAll(async () => {
    connection?.close();
    await server?.stop();
    await data?.[Symbol.asyncDispose]();
    await admin?.query(`drop role if exists ${role}`);
    await admin?.end();
  });

  const run = async (statements: readonly string[]) => {
    for (const text of statements) await admin.query(text.replaceAll("%d", name).replaceAll("%r", role));
  };
  const cutConnections = () =>
    admin.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", [name]);
  const store = (id: string) => connection.client.store({ id, content: `the harbour ${id}` });
  /** Returns the first error that does not come from a connection that was just cut. */
  const failureOf = async (call: () => Promise<unknown>, reason: string): Promise<ConnectError> => {
    for (;;) {
      const error = await call().then(() => undefined, ConnectError.from);
      if (error === undefined) throw new Error("the call succeeded");
      const [info] = error.findDetails(ErrorInfoSchema);
      if (
        info?.reason === reason ||
        !["OUTCOME_UNKNOWN", "DATABASE_UNAVAILABLE"].includes(info?.reason ?? "")
      ) {
        return error;
      }
    }
  };
  const readiness = async () => (await fetch(`${server.url}/readyz`)).status;

  test.each(TROUBLES)(
    "$name, callers get a clear error, and service resumes afterwards",
    {
      timeout: 30_000,
    },
    async (trouble) => {
      await store("before");
      await run(trouble.begin);
      try {
        await cutConnections();
        const error = await failureOf(() => store(trouble.reason), trouble.reason);
        expect(error.code).toBe(trouble.code);
        expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: trouble.reason }]);
        expect(error.findDetails(RetryInfoSchema)).toHaveLength(trouble.retry ? 1 : 0);
        const read = connection.client.get({ id: "before" });
        if (trouble.reading === undefined) expect((await read).memory?.id).toBe("before");
        else
          expect((await read.catch(ConnectError.from)) as unknown).toMatchObject({ code: trouble.reading });
        expect(await readiness()).toBe(trouble.ready);
        expect((await fetch(`${server.url}/livez`)).status).toBe(200);
      } finally {
        await run(trouble.end);
      }
      expect((await store(trouble.name.replaceAll(/[^a-z]/g, "-"))).memory?.version).toBe(1n);
      expect(await readiness()).toBe(200);
    },
  );

  test("has a full disk, callers get a clear error, and service resumes once it has space", {
    timeout: 30_000,
  }, async () => {
    await store("before");
    await within(
      data.url,
      `create function full_disk() returns trigger language plpgsql as
         $$ begin raise exception 'could not extend file' using errcode = '53100'; end $$;
       create trigger full_disk before insert or update on default_memories execute function full_disk()`,
    );
    const error = await store("full").then(() => undefined, ConnectError.from);
    expect(error).toMatchObject({ code: Code.ResourceExhausted });
    expect(error?.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "STORAGE_FULL" }]);
    expect(error?.findDetails(RetryInfoSchema)).toEqual([]);
    expect(error?.message).not.toContain("extend");
    expect((await connection.client.get({ id: "before" })).memory?.id).toBe("before");
    await within(data.url, "drop trigger full_disk on default_memories");
    expect((await store("full")).memory?.version).toBe(1n);
  });
});

/** Runs statements as the administrator in the database of the URL. */
async function within(url: string, statements: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(statements);
  await client.end();
}
