import { describe, expect, it } from "vitest";
import type { Database } from "../../../../src/storage/database/database.ts";
import { mapDatabaseError } from "../../../../src/storage/database/errors.ts";
import { checkServer, compareVersions } from "../../../../src/storage/database/server/check-server.ts";
import { openPostgresDatabase } from "../../../../src/storage/database/server/postgres-database.ts";
import { databaseUrl } from "../../../support/postgres/administer.ts";
import { testDatabaseUrl } from "../../../support/postgres/postgres-server.ts";
import { silentLogger } from "../../../support/silent-logger.ts";

/** A server that answers the check's question with these facts. */
function serverWith(facts: { version?: string; number?: number; pgvector?: string | null }): Database {
  const row = { version: "18.1", number: 180_001, pgvector: "0.8.7", ...facts };
  return { query: async () => [row] } as unknown as Database;
}

function refusing(code: string, message: string): Database {
  const error = mapDatabaseError(Object.assign(new Error(message), { code, severity: "FATAL" }));
  return { query: () => Promise.reject(error) } as unknown as Database;
}

describe("checkServer", () => {
  it.each([
    [
      "an old PostgreSQL",
      serverWith({ version: "14.9", number: 140_009 }),
      "PostgreSQL 14.9 is too old: upgrade the server to version 15 or newer",
    ],
    [
      "no pgvector",
      serverWith({ pgvector: null }),
      "the PostgreSQL server does not have the pgvector extension",
    ],
    [
      "an old pgvector",
      serverWith({ pgvector: "0.7.4" }),
      "pgvector 0.7.4 is too old: install version 0.8.0 or newer",
    ],
    [
      "a wrong password",
      refusing("28P01", 'password authentication failed for user "u"'),
      'PostgreSQL refused the login: password authentication failed for user "u"',
    ],
    [
      "a missing database",
      refusing("3D000", 'database "nope" does not exist'),
      'database "nope" does not exist: create the database',
    ],
  ])("refuses %s in one sentence", async (_, database, sentence) => {
    await expect(checkServer(database, { logger: silentLogger })).rejects.toMatchObject({
      name: "StartupError",
      message: expect.stringContaining(sentence),
    });
  });

  it.each([
    ["0.8.0", 1],
    ["0.8.3", 1],
    ["0.8.4", 0],
    ["0.10.0", 0],
  ])("with pgvector %s warns %i times", async (pgvector, times) => {
    const warnings: unknown[] = [];
    const logger = { ...silentLogger, warn: (...args: unknown[]) => void warnings.push(args) };
    await checkServer(serverWith({ pgvector }), { logger });
    expect(warnings).toHaveLength(times);
  });

  it("reports where no server listens, also for a name with two addresses", async () => {
    for (const host of ["127.0.0.1", "localhost"]) {
      const database = await openPostgresDatabase({
        connection: { host, port: 1, database: "x", user: "x" },
        logger: silentLogger,
      });
      await expect(checkServer(database, { logger: silentLogger })).rejects.toMatchObject({
        name: "StartupError",
        message: expect.stringMatching(/^cannot reach PostgreSQL: .*127\.0\.0\.1:1/),
      });
      await database.close();
    }
  });

  it("compares versions by number", () => {
    expect(compareVersions("0.10.0", "0.9.9")).toBeGreaterThan(0);
    expect(compareVersions("0.8", "0.8.0")).toBe(0);
    expect(compareVersions("0.8.0", "0.8.4")).toBeLessThan(0);
  });
});

const url = testDatabaseUrl();
if (url !== undefined) {
  describe("checkServer on a server", () => {
    it("accepts the server that the tests run on", async () => {
      const database = await openPostgresDatabase({
        connection: { connectionString: url },
        logger: silentLogger,
      });
      const versions = await checkServer(database, { logger: silentLogger });
      expect(versions.postgres).toMatch(/^\d+\./);
      expect(versions.pgvector).toMatch(/^0\.\d+\.\d+/);
      await database.close();
    });

    it("tells that a database is missing", async () => {
      const connectionString = databaseUrl(url, "no_such_database");
      const database = await openPostgresDatabase({ connection: { connectionString }, logger: silentLogger });
      await expect(checkServer(database, { logger: silentLogger })).rejects.toMatchObject({
        name: "StartupError",
        message: expect.stringContaining('database "no_such_database" does not exist'),
      });
      await database.close();
    });
  });
}
