import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Database } from "../../../../src/storage/database/database.ts";
import { MAX_PREPARED_STATEMENTS } from "../../../../src/storage/database/prepared-statements.ts";
import {
  openPostgresDatabase,
  type PostgresOptions,
} from "../../../../src/storage/database/server/postgres-database.ts";
import { databaseEngines, empty, urlOf } from "../../../support/postgres/databases.ts";
import { testDatabaseUrl } from "../../../support/postgres/postgres-server.ts";
import { openTcpProxy, type TcpProxy } from "../../../support/server/tcp-proxy.ts";
import { silentLogger } from "../../../support/silent-logger.ts";

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    (value) => expect.fail(`resolved to ${String(value)}`),
    (error: unknown) => error,
  );
}

describe("the pool without a server", () => {
  it("reports DATABASE_UNAVAILABLE with a retry delay if no server listens", async () => {
    const database = await openPostgresDatabase({
      connection: { host: "127.0.0.1", port: 1, database: "x", user: "x" },
      logger: silentLogger,
    });
    const unavailable = { name: "ServiceError", reason: "DATABASE_UNAVAILABLE", retryAfterMs: 1_000 };
    expect(await rejection(database.query({ text: "select 1" }))).toMatchObject(unavailable);
    expect(await rejection(database.execute("select 1"))).toMatchObject(unavailable);
    expect(await rejection(database.transaction(async () => 1))).toMatchObject(unavailable);
    expect(await rejection(database.ping(1_000))).toMatchObject(unavailable);
    await database.close();
  });
});

const url = testDatabaseUrl();
if (url !== undefined) {
  describe("the pool on a server", () => {
    let base: Database;
    let admin: pg.Client;
    let proxy: TcpProxy;
    let database: Database;

    const open = (options: Partial<PostgresOptions> = {}) => {
      const own = new URL(urlOf(base));
      own.host = `127.0.0.1:${proxy.port}`;
      return openPostgresDatabase({
        connection: { connectionString: own.href },
        poolSize: 2,
        logger: silentLogger,
        ...options,
      });
    };

    beforeAll(async () => {
      const engine = databaseEngines(empty).find(({ engine }) => engine === "postgres");
      if (engine === undefined) throw new Error("no server to test on");
      base = await engine.open();
      await base.execute("create table t (id text primary key)");
      admin = new pg.Client({ connectionString: urlOf(base) });
      await admin.connect();
    });
    afterAll(async () => {
      await admin.end();
      await base.close();
    });
    beforeEach(async () => {
      proxy = await openTcpProxy(url);
      database = await open();
    });
    afterEach(async () => {
      await database.close();
      await proxy.close();
    });

    const running = async (text: string) => {
      const { rows } = await admin.query(
        "select pid from pg_stat_activity where state = 'active' and query like $1 and pid <> pg_backend_pid() and datname = current_database()",
        [`%${text}%`],
      );
      return rows.length;
    };
    const exists = async (id: string) =>
      (await admin.query("select from t where id = $1", [id])).rowCount === 1;

    it("cancels on the server what its caller left", async () => {
      const controller = new AbortController();
      const left = database.query({ text: "select pg_sleep(60)" }, [], { signal: controller.signal });
      await expect.poll(() => running("pg_sleep(60)")).toBe(1);
      const start = performance.now();
      controller.abort();
      expect(await rejection(left)).toMatchObject({ name: "AbortError" });
      await expect.poll(() => running("pg_sleep(60)"), { interval: 5 }).toBe(0);
      expect(performance.now() - start).toBeLessThan(200);
    });

    it("cancels the statement of a transaction and rolls it back", async () => {
      const controller = new AbortController();
      const left = database.transaction(
        async (transaction) => {
          await transaction.query({ text: "insert into t values ('cancelled')" });
          await transaction.query({ text: "select pg_sleep(61)" });
        },
        { signal: controller.signal },
      );
      await expect.poll(() => running("pg_sleep(61)")).toBe(1);
      controller.abort();
      expect(await rejection(left)).toMatchObject({ name: "AbortError" });
      await expect.poll(() => running("pg_sleep(61)")).toBe(0);
      expect(await exists("cancelled")).toBe(false);
    });

    it("lets no cancellation hit the next statement of the connection", async () => {
      const single = await open({ poolSize: 1 });
      for (let i = 0; i < 200; i++) {
        const controller = new AbortController();
        const left = single.query({ text: "select pg_sleep(0.001)" }, [], { signal: controller.signal });
        setTimeout(() => controller.abort(), i % 4);
        await left.catch(() => undefined);
        expect(await single.query({ text: "select 1 as n" })).toEqual([{ n: 1 }]);
      }
      await single.close();
    });

    it("gives a waiting caller's place up when it leaves", async () => {
      const single = await open({ poolSize: 1 });
      const controller = new AbortController();
      const first = single.query({ text: "select pg_sleep(0.2)" });
      const left = single.query({ text: "select 'never'" }, [], { signal: controller.signal });
      controller.abort();
      expect(await rejection(left)).toMatchObject({ name: "AbortError" });
      await first;
      expect(await single.query({ text: "select 1 as n" })).toEqual([{ n: 1 }]);
      await single.close();
    });

    it("answers OVERLOADED when every connection stays busy, and continues afterwards", async () => {
      const narrow = await open({ poolSize: 1, poolWaitMs: 50 });
      await narrow.query({ text: "select 1" });
      const busy = narrow.query({ text: "select pg_sleep(0.3)" });
      expect(await rejection(narrow.query({ text: "select 1" }))).toMatchObject({
        reason: "OVERLOADED",
        retryAfterMs: 500,
      });
      await narrow.ping(1_000);
      await busy;
      expect(await narrow.query({ text: "select 1 as n" })).toEqual([{ n: 1 }]);
      await narrow.close();
    });

    it("ends a statement at its time-out", async () => {
      const impatient = await open({ statementTimeoutMs: 50 });
      const slow = impatient.query({ text: "select pg_sleep(5)" });
      expect(await rejection(slow)).toMatchObject({ reason: "DEADLINE_EXCEEDED" });
      await impatient.close();
    });

    it("survives that the server ends its connections", async () => {
      await Promise.all([database.query({ text: "select 1" }), database.query({ text: "select 1" })]);
      await admin.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
      );
      await expect
        .poll(() => database.query({ text: "select 1 as n" }).catch(() => undefined))
        .toEqual([{ n: 1 }]);
      expect(
        await database.transaction((transaction) => transaction.query({ text: "select 2 as n" })),
      ).toEqual([{ n: 2 }]);
    });

    it("answers DATABASE_UNAVAILABLE for a read whose connection is ended", async () => {
      const reading = database.query({ text: "select pg_sleep(62)" });
      await expect.poll(() => running("pg_sleep(62)")).toBe(1);
      proxy.refuse();
      expect(await rejection(reading)).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
      expect(await rejection(database.query({ text: "select 1" }))).toMatchObject({
        reason: "DATABASE_UNAVAILABLE",
      });
      proxy.accept();
      expect(await database.query({ text: "select 1 as n" })).toEqual([{ n: 1 }]);
    });

    it("answers OUTCOME_UNKNOWN when the connection is lost in a commit, which may have happened", async () => {
      // With its end: `begin isolation level read committed` has the same bytes otherwise.
      proxy.cutAfter("commit\0");
      const lost = database.transaction((transaction) =>
        transaction.query({ text: "insert into t values ('kept')" }),
      );
      expect(await rejection(lost)).toMatchObject({ reason: "OUTCOME_UNKNOWN", retryAfterMs: 1_000 });
      await expect.poll(() => exists("kept")).toBe(true);
    });

    it("answers OUTCOME_UNKNOWN when the connection is lost in a change that commits itself", async () => {
      proxy.cutAfter("insert into t");
      const lost = database.query({ writes: true, text: "insert into t values ($1)" }, ["changed"]);
      expect(await rejection(lost)).toMatchObject({ reason: "OUTCOME_UNKNOWN" });
      await expect.poll(() => exists("changed")).toBe(true);
    });

    it("answers DATABASE_UNAVAILABLE when the connection is lost before the commit", async () => {
      proxy.cutAfter("insert into t");
      const lost = database.transaction((transaction) =>
        transaction.query({ text: "insert into t values ('lost')" }),
      );
      expect(await rejection(lost)).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
      expect(await exists("lost")).toBe(false);
    });

    it("answers DATABASE_UNAVAILABLE, and not OVERLOADED, while a silent server takes connections", async () => {
      proxy.silence();
      const patient = await open({ connectTimeoutMs: 200, poolWaitMs: 50 });
      const callers = [1, 2, 3, 4].map(() => rejection(patient.query({ text: "select 1" })));
      for (const error of await Promise.all(callers))
        expect(error).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
      expect(await rejection(patient.ping(50))).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
      await patient.close();
    });

    it("leaves a server that takes no changes any more, for the one that does", async () => {
      const single = await open({ poolSize: 3 });
      const name = new URL(urlOf(base)).pathname.slice(1);
      const insert = (id: string) => single.query({ text: "insert into t values ($1) returning id" }, [id]);
      await admin.query(`alter database ${name} set default_transaction_read_only = on`);
      try {
        // A connection each.
        await Promise.all([1, 2, 3].map(() => single.query({ text: "select pg_sleep(0.1)" })));
        const refused = {
          reason: "DATABASE_UNAVAILABLE",
          message: expect.stringContaining("does not accept changes"),
        };
        expect(await rejection(insert("standby"))).toMatchObject(refused);
        expect(
          await rejection(single.transaction((t) => t.query({ text: "delete from t" }))),
          "of a transaction, too",
        ).toMatchObject(refused);
        expect(await single.ping(1_000)).toEqual({ writable: false });
      } finally {
        await admin.query(`alter database ${name} reset default_transaction_read_only`);
      }
      expect(await single.ping(1_000)).toEqual({ writable: true });
      expect(await insert("primary")).toEqual([{ id: "primary" }]);
      await single.close();
    });

    it("cuts a connection on which a statement gets no answer long after its time-out", {
      timeout: 20_000,
    }, async () => {
      const single = await open({ poolSize: 1, statementTimeoutMs: 100, connectTimeoutMs: 500 });
      await single.query({ text: "select 1" });
      proxy.freeze();
      expect(await rejection(single.query({ text: "select 1" }))).toMatchObject({
        reason: "DATABASE_UNAVAILABLE",
      });
      expect(await rejection(single.ping(50))).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
      proxy.accept();
      expect(await single.query({ text: "select 1 as n" })).toEqual([{ n: 1 }]);
      await expect.poll(() => single.ping(1_000).catch(() => undefined)).toEqual({ writable: true });
      await single.close();
    });

    it("cuts a connection on which a savepoint or a place for a prepared statement gets no answer", {
      timeout: 20_000,
    }, async () => {
      const impatient = () => open({ poolSize: 1, statementTimeoutMs: 100, connectTimeoutMs: 500 });
      const [setting, releasing, full] = [await impatient(), await impatient(), await impatient()];
      for (let i = 0; i < MAX_PREPARED_STATEMENTS; i++) {
        await full.query({ name: `full_${i}`, text: "select 1" });
      }
      let inside = 0;
      const frozen = Promise.withResolvers<void>();
      const executeWhenFrozen = (single: Database, script: string) =>
        single.transaction(async (transaction) => {
          await transaction.execute("savepoint s");
          inside++;
          await frozen.promise;
          await transaction.execute(script);
        });
      const cut = [
        rejection(executeWhenFrozen(setting, "savepoint t")),
        rejection(executeWhenFrozen(releasing, "release savepoint s")),
      ];
      await expect.poll(() => inside).toBe(2);
      proxy.freeze();
      frozen.resolve();
      cut.push(rejection(full.query({ name: "one_more", text: "select 1" })));
      for (const error of await Promise.all(cut)) {
        expect(error).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
      }
      for (const single of [setting, releasing, full]) await single.close();
    });

    it("closes after what runs and refuses who waits", async () => {
      const single = await open({ poolSize: 1 });
      await single.query({ text: "select 1" });
      const held = single.query({ text: "select pg_sleep(0.2), 7 as n" });
      await expect.poll(() => running("pg_sleep(0.2)")).toBe(1);
      const waiting = rejection(single.query({ text: "select 1" }));
      await single.close();
      expect((await held)[0]?.n).toBe(7);
      expect(await waiting).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
    });

    it("keeps at most 200 statements prepared on a connection, the ones used last", async () => {
      const single = await open({ poolSize: 1 });
      for (let i = 0; i < 230; i++) await single.query({ name: `lru_${i}`, text: `select ${i}` });
      await single.query({ name: "lru_30", text: "select 30" });
      await single.query({ name: "lru_230", text: "select 230" });
      const names = (
        await single.query<{ name: string }>({ text: "select name from pg_prepared_statements" })
      ).map(({ name }) => name);
      expect(names).toHaveLength(200);
      expect(names).toContain("lru_30");
      expect(names).not.toContain("lru_31");
      await single.close();
    });

    it("prepares nothing when told so", async () => {
      const unprepared = await open({ poolSize: 1, preparedStatements: false });
      await unprepared.query({ name: "one", text: "select $1::int" }, [1]);
      expect(await unprepared.query({ text: "select name from pg_prepared_statements" })).toEqual([]);
      await unprepared.close();
    });

    it("keeps its settings beside the options of the connection string, which come last", async () => {
      const own = new URL(urlOf(base));
      own.searchParams.set("options", "-c hnsw.ef_search=77 -c work_mem=5MB");
      const other = await openPostgresDatabase({
        connection: { connectionString: own.href },
        logger: silentLogger,
      });
      const [row] = await other.query({
        text: `select current_setting('hnsw.ef_search') as ef_search, current_setting('work_mem') as work_mem,
          current_setting('hnsw.iterative_scan') as scan, current_setting('statement_timeout') as timeout,
          current_setting('application_name') as name`,
      });
      expect(row).toEqual({
        ef_search: "77",
        work_mem: "5MB",
        scan: "relaxed_order",
        timeout: "30s",
        name: "memory-service",
      });
      await other.close();
    });
  });
}
