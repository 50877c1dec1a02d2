import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { draft, newDomainName } from "../../support/drafts.ts";
import { databaseEngines, urlOf } from "../../support/postgres/databases.ts";

const engines = databaseEngines().filter(({ engine }) => engine === "postgres");
const STATEMENT_TIMEOUT_MS = 200;

describe.each(engines)("a model of other dimensions on $name", ({ open }) => {
  let database: Database;
  let admin: pg.Client;

  beforeAll(async () => {
    database = await open({ statementTimeoutMs: STATEMENT_TIMEOUT_MS });
    admin = new pg.Client({ connectionString: urlOf(database) });
    await admin.connect();
  });
  afterAll(async () => {
    await admin?.end();
    await database?.close();
  });

  // A slow reader simulates a million rows that have to be rewritten.
  test("may take longer than the statement time-out of a call", async () => {
    const repository = createPostgresRepository(database);
    const domain = newDomainName();
    await repository.createDomain(domain, 3);
    await repository.insert(domain, draft());
    const version = await repository.registerEmbeddingVersion(
      { model: "wide", digest: "", dimensions: 5, profile: "p/1" },
      1,
    );
    await admin.query("begin");
    await admin.query(`select from "${domain}_memories"`);
    const moving = repository.useEmbeddingVersion(domain, version, 5);
    const waitingMs = async () => {
      const { rows } = await admin.query(
        `select extract(epoch from clock_timestamp() - query_start) * 1000 as ms from pg_stat_activity
          where wait_event_type = 'Lock' and datname = current_database()`,
      );
      return Number(rows[0]?.ms ?? 0);
    };
    await Promise.race([
      expect.poll(waitingMs, { timeout: 20_000 }).toBeGreaterThan(2 * STATEMENT_TIMEOUT_MS),
      moving,
    ]);
    await admin.query("commit");
    expect(await moving).toMatchObject({ embeddingVersion: version, dimensions: 5 });
  });
});
