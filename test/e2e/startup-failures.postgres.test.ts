import pg from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { expectRefusal } from "../support/expect-refusal.ts";
import { databaseUrl } from "../support/postgres/administer.ts";
import { type NativePostgres, startNativePostgres } from "../support/postgres/native-postgres.ts";
import { postgresServers } from "../support/server/server-engines.ts";
import { runProgram, startServerProcess } from "../support/server/server-process.ts";

vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });

describe.each(postgresServers())("on $name", () => {
  let postgres: NativePostgres;
  let admin: pg.Client;

  beforeAll(async () => {
    postgres = await startNativePostgres("startup");
    admin = new pg.Client({ connectionString: postgres.url });
    await admin.connect();
  });

  afterAll(async () => {
    await admin.end();
    await postgres[Symbol.asyncDispose]();
  });

  /** A database that finds extensions only in this directory of the server's machine. */
  async function createDatabaseWithExtensionsFrom(name: string, directory: string): Promise<string> {
    await admin.query(`create database ${name}`);
    await admin.query(`alter database ${name} set extension_control_path = '${directory}'`);
    return databaseUrl(postgres.url, name);
  }

  test("reports a wrong password without printing it", async () => {
    await admin.query("create role locked login password 'right-password'");
    const { rows } = await admin.query<{ file: string }>("select current_setting('hba_file') as file");
    const file = rows[0]?.file ?? "";
    // PostgreSQL writes its own file, since the location of its root is known only to the script.
    await admin.query(
      `copy (values ('host all locked 127.0.0.1/32 scram-sha-256'), ('host all all 127.0.0.1/32 trust')) to '${file}'`,
    );
    await admin.query("select pg_reload_conf()");
    const url = new URL(postgres.url);
    url.username = "locked";
    url.password = "wrong-password";
    const { stderr } = await runProgram(["serve"], { env: { DATABASE_URL: url.href } });
    expect(stderr).not.toContain("wrong-password");
    await expectRefusal({ DATABASE_URL: url.href }, /PostgreSQL refused the login: .*"locked"/);
  });

  test("names a database that does not exist", async () => {
    await expectRefusal(
      { DATABASE_URL: databaseUrl(postgres.url, "nowhere") },
      /database "nowhere" does not exist: create the database/,
    );
  });

  test("names the pgvector version to install when PostgreSQL has none", async () => {
    const url = await createDatabaseWithExtensionsFrom("without_pgvector", "/tmp/nothing-here");
    await expectRefusal(
      { DATABASE_URL: url },
      /does not have the pgvector extension: install pgvector 0\.8\.4/,
    );
  });

  test("names the pgvector version to install when pgvector is too old", async () => {
    const directory = "/tmp/old-pgvector";
    await admin.query(
      `copy (values ('default_version = ''0.7.4''')) to program
        'mkdir -p ${directory}/extension && cat > ${directory}/extension/vector.control'`,
    );
    const url = await createDatabaseWithExtensionsFrom("old_pgvector", directory);
    await expectRefusal(
      { DATABASE_URL: url },
      /pgvector 0\.7\.4 is too old: install version 0\.8\.0 or newer/,
    );
  });

  test("refuses a database of a newer version of the program", async () => {
    await admin.query("create database newer");
    const url = databaseUrl(postgres.url, "newer");
    const first = await startServerProcess({ env: { DATABASE_URL: url } });
    expect((await first.stop()).code).toBe(0);
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query(
      "insert into memory_migrations (id, name, checksum) values (999999, '999999_later', 'x')",
    );
    await client.end();
    await expectRefusal(
      { DATABASE_URL: url },
      /the database is newer than this program, which does not know migration 999999_later/,
    );
  });
});
