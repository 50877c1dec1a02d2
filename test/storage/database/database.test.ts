import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Database, Parameter } from "../../../src/storage/database/database.ts";
import { databaseEngines, empty } from "../../support/postgres/databases.ts";

/** Rejection of the promise, for errors that are compared by several properties. */
async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    (value) => expect.fail(`resolved to ${String(value)}`),
    (error: unknown) => error,
  );
}

describe.each(databaseEngines(empty))("database contract on $name", (engine) => {
  let database: Database;

  beforeAll(async () => {
    database = await engine.open();
    await database.execute(`
      create extension if not exists vector;
      create table things (id text primary key, n bigint check (n >= 0), embedding vector(3), bytes bytea, doc jsonb);
    `);
  });
  afterAll(() => database.close());

  const count = async (prefix: string) =>
    (
      await database.query<{ n: bigint }>({ text: "select count(*) as n from things where id like $1" }, [
        `${prefix}%`,
      ])
    )[0]?.n;
  const insert = { name: "insert_thing", text: "insert into things (id, n) values ($1, $2)" };

  describe("values", () => {
    const rows: Array<[what: string, type: string, parameter: Parameter, expected?: unknown]> = [
      ["text", "text", "naïve \u{1F600} ' \\ \n"],
      ["empty text", "text", ""],
      ["the text NULL", "text", "NULL"],
      ["a small int8 as bigint", "int8", 5, 5n],
      ["the largest int8", "int8", 9223372036854775807n],
      ["int4", "int4", -7],
      ["float8", "float8", 0.1],
      ["a large float8", "float8", 1e300],
      ["float4", "float4", 0.5],
      ["numeric as number", "numeric", "1.25", 1.25],
      ["true", "boolean", true],
      ["false", "boolean", false],
      ["null", "text", null],
      ["bytes", "bytea", new Uint8Array([0, 1, 127, 128, 255])],
      ["no bytes", "bytea", new Uint8Array()],
      [
        "bytes out of the middle of a buffer",
        "bytea",
        new Uint8Array([9, 8, 7, 6]).subarray(1, 3),
        new Uint8Array([8, 7]),
      ],
      ["jsonb, parsed", "jsonb", '{"a": [1, null, "x"]}', { a: [1, null, "x"] }],
      ["json, parsed", "json", '"x"', "x"],
      ["text array", "text[]", ["a", 'q"\\{},', "", "NULL", "ü"]],
      ["empty text array", "text[]", []],
      ["int4 array", "int4[]", [1, -2]],
      ["float8 array", "float8[]", [0.5, 1e10]],
      ["int8 array as bigints", "int8[]", [1, 2], [1n, 2n]],
      ["embedding", "vector", new Float32Array([0.5, -1, 3]), "[0.5,-1,3]"],
      ["embedding read as numbers", "vector(2)::real[]", new Float32Array([0.5, -1]), [0.5, -1]],
      [
        "timestamptz as text in UTC",
        "timestamptz",
        "2026-01-02 03:04:05.123456+02",
        "2026-01-02 01:04:05.123456+00",
      ],
      ["uuid", "uuid", "0198c0de-0000-7000-8000-000000000000"],
    ];
    it.each(rows)("carry %s there and back", async (_, type, parameter, expected) => {
      for (const name of [undefined, `values_${type}`]) {
        const [row] = await database.query({ text: `select $1::${type} as value`, ...(name && { name }) }, [
          parameter,
        ]);
        expect(row?.value).toEqual(expected === undefined ? parameter : expected);
      }
    });

    it("read nulls and nested arrays", async () => {
      const [row] = await database.query({ text: "select array[[1, null], [3, 4]]::int8[] as value" });
      expect(row?.value).toEqual([
        [1n, null],
        [3n, 4n],
      ]);
    });

    it("give bytes with a memory of their own", async () => {
      const [row] = await database.query<{ value: Uint8Array }>({ text: "select '\\x0102'::bytea as value" });
      expect(row?.value.constructor).toBe(Uint8Array);
      expect(row?.value.buffer.byteLength).toBe(2);
    });

    it("send an embedding in pgvector's binary form, exactly", async () => {
      const embedding = Float32Array.from({ length: 768 }, (_, i) => Math.fround(Math.sin(i) / 3));
      const [row] = await database.query<{ value: number[]; distance: number }>(
        { text: "select $1::vector(768)::real[] as value, $1 <=> $1 as distance" },
        [embedding],
      );
      expect(Float32Array.from(row?.value ?? [])).toEqual(embedding);
      expect(row?.distance).toBeCloseTo(0, 6);
    });

    it("are numbers for pgvector's types once these are registered", async () => {
      const own = await engine.open();
      try {
        await own.execute("create extension if not exists vector");
        const text =
          "select $1::vector as v, $1::vector::halfvec as h, null::vector as none, array['[1]'::text] as a";
        const embedding = Float32Array.from([0.1, -1, 3e-5]);
        const read = async () => (await own.query({ name: "registered", text }, [embedding]))[0];
        expect(await read()).toMatchObject({ v: "[0.1,-1,3e-05]", none: null });
        await own.registerVectorTypes();
        const row = await read();
        expect(row).toEqual({ v: [0.1, -1, 3e-5], h: expect.any(Array), none: null, a: ["[1]"] });
        expect(Float32Array.from(row?.v as number[])).toEqual(embedding);
        const half = row?.h as number[];
        expect(half).toHaveLength(3);
        for (const [i, value] of half.entries()) expect(value).toBeCloseTo(embedding[i] ?? 0, 3);
        const rows = await own.transaction((transaction) => transaction.query({ text }, [embedding]));
        expect(rows).toEqual([row]);
      } finally {
        await own.close();
      }
    });

    it("refuse to register pgvector's types without the extension", async () => {
      const own = await engine.open();
      try {
        await expect(own.registerVectorTypes()).rejects.toThrow("vector type not found");
      } finally {
        await own.close();
      }
    });

    it("refuse an embedding of another size", async () => {
      const wrong = database.query({ text: "insert into things (id, embedding) values ('dim', $1)" }, [
        new Float32Array(4),
      ]);
      expect(await rejection(wrong)).toMatchObject({ name: "DatabaseError", sqlstate: "22000" });
    });
  });

  it("has the settings of every connection", async () => {
    await database.query({ text: "select '[1]'::vector" });
    const [row] = await database.query({
      text: `select current_setting('hnsw.ef_search') as ef_search, current_setting('hnsw.iterative_scan') as scan,
        current_setting('TimeZone') as zone`,
    });
    expect(row).toEqual({ ef_search: "200", scan: "relaxed_order", zone: "UTC" });
  });

  describe("errors", () => {
    it("tell the SQLSTATE and the constraint of a unique violation", async () => {
      await database.query(insert, ["dup", 1]);
      const error = await rejection(database.query(insert, ["dup", 1]));
      expect(error).toMatchObject({ name: "DatabaseError", sqlstate: "23505", constraint: "things_pkey" });
    });

    it("keep the driver's text in the cause", async () => {
      const error = (await rejection(database.query({ text: "select * from nowhere" }))) as Error;
      expect(error).toMatchObject({ name: "DatabaseError", sqlstate: "42P01" });
      expect(error.message).not.toContain("nowhere");
      expect((error.cause as Error).message).toContain("nowhere");
    });

    it.each([
      ["40001", "CONFLICT"],
      ["40P01", "CONFLICT"],
      ["57014", "DEADLINE_EXCEEDED"],
      ["53300", "OVERLOADED"],
      ["53100", "STORAGE_FULL"],
      ["25006", "DATABASE_UNAVAILABLE"],
    ])("map SQLSTATE %s to %s", async (state, reason) => {
      const raise = database.execute(
        `do $$ begin raise exception 'secret' using errcode = '${state}'; end $$`,
      );
      const error = (await rejection(raise)) as Error;
      expect(error).toMatchObject({ name: "ServiceError", reason });
      expect(error.message).not.toContain("secret");
    });

    it("leave the connection usable, also after many", async () => {
      for (let i = 0; i < 20; i++) {
        await rejection(database.query({ text: "select 1 / $1::int", name: "divide" }, [0]));
        await rejection(database.query({ text: "selec $1" }, [1]));
      }
      expect(await database.query({ text: "select 6 / $1::int as n", name: "divide_6" }, [3])).toEqual([
        { n: 2 },
      ]);
    });

    it("name a statement name that is used for two statements", async () => {
      await database.query({ text: "select 1", name: "twice" });
      const error = (await rejection(database.query({ text: "select 2", name: "twice" }))) as Error;
      expect(error).toMatchObject({ reason: "INTERNAL" });
      expect((error.cause as Error).message).toContain("twice");
    });

    it("name a statement name that PostgreSQL would cut", async () => {
      const longest = `${"n".repeat(61)}ä`;
      expect(await database.query({ text: "select 1 as n", name: longest })).toEqual([{ n: 1 }]);
      const query = { text: "select 1 as n", name: `${longest}s` };
      for (const refused of [
        database.query(query),
        database.transaction((transaction) => transaction.query(query)),
      ]) {
        const error = (await rejection(refused)) as Error;
        expect(error).toMatchObject({ reason: "INTERNAL" });
        expect((error.cause as Error).message).toContain("longer than 63 bytes");
      }
    });

    it("of a script leave nothing of it behind", async () => {
      await rejection(database.execute("insert into things (id) values ('script'); select 1 / 0"));
      expect(await count("script")).toBe(0n);
    });
  });

  describe("named statements", () => {
    it("work again after falling out of the prepared ones", async () => {
      for (let round = 0; round < 2; round++) {
        for (let i = 0; i < 250; i++) {
          const [row] = await database.query({ name: `many_${i}`, text: `select ${i} + $1::int as n` }, [1]);
          expect(row?.n).toBe(i + 1);
        }
      }
    });

    it("survive that their table is made again with another shape", async () => {
      const read = { name: "read_shape", text: "select value from shapes" };
      await database.execute("create table shapes (value int); insert into shapes values (1)");
      expect(await database.query(read)).toEqual([{ value: 1 }]);
      await database.execute(
        "drop table shapes; create table shapes (value text); insert into shapes values ('x')",
      );
      expect(await database.query(read)).toEqual([{ value: "x" }]);
      expect(await database.transaction((transaction) => transaction.query(read))).toEqual([{ value: "x" }]);
    });
  });

  describe("a transaction", () => {
    it("commits what its work did", async () => {
      const value = await database.transaction(async (transaction) => {
        await transaction.query(insert, ["commit_1", 1]);
        await transaction.query(insert, ["commit_2", 1]);
        return "done";
      });
      expect(value).toBe("done");
      expect(await count("commit_")).toBe(2n);
    });

    it("rolls back if its work rejects, and rejects alike", async () => {
      const error = new Error("mine");
      const failed = database.transaction(async (transaction) => {
        await transaction.query(insert, ["rollback_1", 1]);
        throw error;
      });
      expect(await rejection(failed)).toBe(error);
      expect(await count("rollback_")).toBe(0n);
    });

    it("does not pretend to commit when its work swallowed an error", async () => {
      const failed = database.transaction(async (transaction) => {
        await transaction.query(insert, ["swallow_1", 1]);
        await rejection(transaction.query(insert, ["swallow_1", 1]));
      });
      expect(await rejection(failed)).toMatchObject({ name: "DatabaseError", sqlstate: "25P02" });
      expect(await count("swallow_")).toBe(0n);
    });

    it("takes statements that are sent at once", async () => {
      const rows = await database.transaction((transaction) =>
        Promise.all([1, 2, 3].map((n) => transaction.query({ text: "select $1::int as n" }, [n]))),
      );
      expect(rows.flat()).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    });

    it("cannot be used after its end", async () => {
      let leaked: Parameters<Parameters<Database["transaction"]>[0]>[0] | undefined;
      await database.transaction(async (transaction) => {
        leaked = transaction;
      });
      await expect(leaked?.query({ text: "select 1" })).rejects.toThrow("the transaction has ended");
    });

    it("is alone with its rows: concurrent increments lose nothing", async () => {
      await database.query(insert, ["counter", 0]);
      const increment = () =>
        database.transaction(async (transaction) => {
          const [row] = await transaction.query<{ n: bigint }>({
            text: "select n from things where id = 'counter' for update",
          });
          await transaction.query({ text: "update things set n = $1 where id = 'counter'" }, [
            (row?.n ?? 0n) + 1n,
          ]);
        });
      await Promise.all(Array.from({ length: 20 }, increment));
      expect(await database.query({ text: "select n from things where id = 'counter'" })).toEqual([
        { n: 20n },
      ]);
    });

    it("is rolled back when its signal is aborted", async () => {
      const controller = new AbortController();
      const reason = new Error("left");
      const work = database.transaction(
        async (transaction) => {
          await transaction.query(insert, ["abort_1", 1]);
          controller.abort(reason);
          await transaction.query(insert, ["abort_2", 1]);
        },
        { signal: controller.signal },
      );
      expect(await rejection(work)).toBe(reason);
      expect(await count("abort_")).toBe(0n);
    });

    it("is rolled back when its signal is aborted while the work waits for something else", async () => {
      const controller = new AbortController();
      const work = database.transaction(
        async (transaction) => {
          await transaction.query(insert, ["stuck_1", 1]);
          queueMicrotask(() => controller.abort());
          await new Promise(() => {});
        },
        { signal: controller.signal },
      );
      expect(await rejection(work)).toMatchObject({ name: "AbortError" });
      expect(await count("stuck_")).toBe(0n);
    });
  });

  describe("a signal", () => {
    it("that is aborted already runs nothing", async () => {
      const reason = new Error("left");
      expect(
        await rejection(database.query(insert, ["signal_1", 1], { signal: AbortSignal.abort(reason) })),
      ).toBe(reason);
      const work = () => expect.fail("ran");
      expect(await rejection(database.transaction(work, { signal: AbortSignal.abort(reason) }))).toBe(reason);
      expect(await count("signal_")).toBe(0n);
    });

    it("ends a running statement's promise at once, and the connection is fit for the next", async () => {
      for (let round = 0; round < 5; round++) {
        const controller = new AbortController();
        const running = database.query({ text: "select count(*) from generate_series(1, 2000000)" }, [], {
          signal: controller.signal,
        });
        setTimeout(() => controller.abort(), 5);
        await once(controller.signal, "abort");
        const start = performance.now();
        expect(await rejection(running)).toMatchObject({ name: "AbortError" });
        expect(performance.now() - start).toBeLessThan(50);
        const after = await Promise.all(
          [1, 2, 3, 4, 5].map((n) => database.query({ text: `select ${n} as n` })),
        );
        expect(after.flat().map((row) => row.n)).toEqual([1, 2, 3, 4, 5]);
      }
    });

    it("aborted at any moment never harms other statements", async () => {
      for (let i = 0; i < 60; i++) {
        const controller = new AbortController();
        const left = database.query({ text: "select pg_sleep(0.002)" }, [], { signal: controller.signal });
        const turns = i % 6;
        setTimeout(() => controller.abort(), turns);
        await left.catch(() => undefined);
        expect(await database.query({ text: "select 1 as n" })).toEqual([{ n: 1 }]);
      }
    });
  });

  describe("a session", () => {
    it("keeps its settings to itself", async () => {
      const inside = await database.session(async (session) => {
        await session.execute("set hnsw.ef_search = 321");
        return await session.query({ text: "select current_setting('hnsw.ef_search') as value" });
      });
      expect(inside).toEqual([{ value: "321" }]);
      const after = await Promise.all(
        Array.from({ length: 8 }, () =>
          database.query({ text: "select current_setting('hnsw.ef_search') as value" }),
        ),
      );
      expect(new Set(after.flat().map((row) => row.value))).toEqual(new Set(["200"]));
    });

    it("gives its advisory locks back", async () => {
      await database.session((session) => session.query({ text: "select pg_advisory_lock(42)" }));
      const held = { text: "select count(*) as n from pg_locks where locktype = 'advisory' and objid = 42" };
      await expect.poll(async () => (await database.query<{ n: bigint }>(held))[0]?.n).toBe(0n);
    });

    it("runs what no transaction allows", async () => {
      await database.session((session) =>
        session.execute("create index concurrently things_n on things (n)"),
      );
      const [row] = await database.query({
        text: "select indisvalid as valid from pg_index where indexrelid = 'things_n'::regclass",
      });
      expect(row).toEqual({ valid: true });
    });
  });

  it("answers a ping", async () => {
    expect(await database.ping(5_000)).toEqual({ writable: true });
  });

  it("runs statements of many callers", async () => {
    const rows = await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        database.query({ name: "echo", text: "select $1::int as n" }, [n]),
      ),
    );
    expect(rows.flat().map((row) => row.n)).toEqual(Array.from({ length: 200 }, (_, n) => n));
  });

  it("closes once, after what runs, and then refuses", async () => {
    const own = await engine.open({ fresh: true });
    const running = own.query({ text: "select 1 as n" });
    const transaction = own.transaction(async (lent) => {
      await lent.query({ text: "select 1" });
      return await lent.query({ text: "select 2 as n" });
    });
    // The pool hands connections out in later turns: what holds none when closing begins is refused.
    await running;
    await Promise.all([own.close(), own.close(), transaction.catch(() => undefined)]);
    await own.close();
    expect(await rejection(own.query({ text: "select 1" }))).toMatchObject({
      reason: "DATABASE_UNAVAILABLE",
    });
    expect(await rejection(own.ping(1_000))).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  });
});
