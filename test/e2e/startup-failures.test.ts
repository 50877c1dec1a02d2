import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { databaseUrl } from "../support/databases.ts";
import { type NativePostgres, startNativePostgres } from "../support/native-postgres.ts";
import {
  createDataDirectory,
  postgresServers,
  runProgram,
  startServerProcess,
} from "../support/server-process.ts";

// Several first starts of the embedded engine on a busy machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });

/** The server cannot start with things as they are. */
const EXIT_FAILURE = 1;
/** The command or a setting is wrong in itself. */
const EXIT_USAGE = 2;

/** Runs `serve`, which has to end with one sentence and nothing else on standard error. */
async function expectRefusal(env: Readonly<Record<string, string>>, sentence: RegExp): Promise<void> {
  const { code, stderr } = await runProgram(["serve"], { env });
  expect(stderr).toMatch(/^memory-service: [^\n]+\n$/);
  expect(stderr).toMatch(sentence);
  expect(stderr).not.toMatch(/Error\b|\.ts:\d+/);
  expect(code).toBe(EXIT_FAILURE);
}

test("a second server on the same data directory is refused, and the first goes on", async () => {
  await using data = await createDataDirectory();
  await using first = await startServerProcess({ env: data.env });
  await expectRefusal(data.env, /the data directory \S+ is in use by another process: stop that one/);
  expect((await fetch(`${first.url}/readyz`)).status).toBe(200);
});

test("a data directory whose server was killed is free again", async () => {
  await using data = await createDataDirectory();
  await using first = await startServerProcess({ env: data.env });
  await first.kill();
  await using second = await startServerProcess({ env: data.env });
  expect((await second.stop()).code).toBe(0);
});

test("a port in use is named", async () => {
  await using data = await createDataDirectory();
  const occupant = createServer().listen(0, "127.0.0.1");
  await once(occupant, "listening");
  const { port } = occupant.address() as AddressInfo;
  try {
    await expectRefusal(
      { ...data.env, MEMORY_PORT: String(port) },
      new RegExp(`cannot listen on 127.0.0.1 port ${port}: the port is already in use`),
    );
  } finally {
    occupant.close();
  }
});

test("a PostgreSQL that cannot be reached is named", async () => {
  await expectRefusal(
    { DATABASE_URL: "postgres://postgres@127.0.0.1:1/postgres" },
    /cannot reach PostgreSQL: .*127\.0\.0\.1:1/,
  );
});

test("settings that are not valid are told all at once", async () => {
  const { code, stderr } = await runProgram(["serve"], {
    env: {
      MEMORY_PORT: "99999",
      MEMORY_LOG_LEVEL: "loud",
      MEMORY_HOST: "0.0.0.0",
      OLLAMA_API_URL: "localhost:11434",
      DATABASE_URL: "postgres://user:hush-hush@127.0.0.1/db",
      POSTGRES_HOST: "127.0.0.1",
    },
  });
  const [heading, ...problems] = stderr.trimEnd().split("\n");
  expect(heading).toBe("memory-service: 5 settings are not valid:");
  expect(problems.map((line) => /^ {2}- (\w+)/.exec(line)?.[1]).sort()).toEqual([
    "DATABASE_URL",
    "MEMORY_HOST",
    "MEMORY_LOG_LEVEL",
    "MEMORY_PORT",
    "OLLAMA_API_URL",
  ]);
  expect(stderr).not.toContain("hush-hush");
  expect(code).toBe(EXIT_USAGE);
});

test.each([
  ["an unknown command", ["swerve"], /unknown command "swerve", it must be serve/],
  ["an unknown option", ["serve", "--prot"], /unknown option "--prot" of serve/],
])("%s is refused", async (_name, args, sentence) => {
  const { code, stderr } = await runProgram(args);
  expect(stderr).toMatch(sentence);
  expect(stderr).not.toMatch(/\.ts:\d+/);
  expect(code).toBe(EXIT_USAGE);
});

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

  test("a wrong password is told, and not repeated", async () => {
    await admin.query("create role locked login password 'right-password'");
    const { rows } = await admin.query<{ file: string }>("select current_setting('hba_file') as file");
    const file = rows[0]?.file ?? "";
    // PostgreSQL writes its own file: where its root is, is the script's affair.
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

  test("a database that does not exist is named", async () => {
    await expectRefusal(
      { DATABASE_URL: databaseUrl(postgres.url, "nowhere") },
      /database "nowhere" does not exist: create it first/,
    );
  });

  test("a PostgreSQL without pgvector is told which version to install", async () => {
    const url = await createDatabaseWithExtensionsFrom("without_pgvector", "/tmp/nothing-here");
    await expectRefusal(
      { DATABASE_URL: url },
      /does not have the pgvector extension: install pgvector 0\.8\.4/,
    );
  });

  test("a pgvector that is too old is told which version to install", async () => {
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

  test("a database of a newer version of the program is refused", async () => {
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
    await expectRefusal({ DATABASE_URL: url }, /the database is newer than this program: .*999999_later/);
  });
});
