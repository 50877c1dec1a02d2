import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Database, Queryable } from "../../../src/storage/database/database.ts";
import { databaseEngines, empty } from "../../support/postgres/databases.ts";
import { requireDeclaredWrites } from "../../support/postgres/require-declared-writes.ts";

// The suites of the repository run on this wrapper, so that a statement of src/ without `writes: true` fails there.
describe.each(databaseEngines(empty))("the check of declared writes on $name", ({ open }) => {
  let database: Database;
  let checked: Database;
  beforeAll(async () => {
    database = await open();
    checked = requireDeclaredWrites(database);
    await database.execute(`
      create table t (n int);
      insert into t values (1);
      create function write_row() returns void language sql as 'insert into t values (9)';
    `);
  });
  afterAll(() => database.close());

  const ways: readonly [string, (work: (queryable: Queryable) => Promise<unknown>) => Promise<unknown>][] = [
    ["alone", (work) => work(checked)],
    ["in a transaction", (work) => checked.transaction(work)],
  ];
  const undeclared = [
    "insert into t values (2)",
    "update t set n = n",
    "with gone as (delete from t returning n) select n from gone",
    "select n from t for update",
    "select write_row()",
    "create table u (n int)",
  ];
  describe.each(ways)("%s", (_, run) => {
    it.each(undeclared)("refuses %s", async (text) => {
      await expect(run((queryable) => queryable.query({ text }))).rejects.toThrow("lacks writes: true");
    });

    it("accepts reads and declared writes", async () => {
      const rows = await run(async (queryable) => {
        await queryable.query({ writes: true, text: "update t set n = 1" });
        const [first, second] = await Promise.all([
          queryable.query({ text: "select n from t" }),
          queryable.query({ text: "select count(*) as n from t" }),
        ]);
        return [first, second];
      });
      expect(rows).toEqual([[{ n: 1 }], [{ n: 1n }]]);
    });
  });
});
