import { describe, expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { readConfig } from "../../src/app/config.ts";
import type { ServerProbe } from "../../src/cli/client/probe-server.ts";
import type { Check, DomainReport } from "../../src/cli/doctor/check.ts";
import { checkDomains } from "../../src/cli/doctor/check-domains.ts";
import { checkEmbedder } from "../../src/cli/doctor/check-embedder.ts";
import { checkEngine } from "../../src/cli/doctor/check-engine.ts";
import { checkMigrations } from "../../src/cli/doctor/check-migrations.ts";
import { checkPostgres } from "../../src/cli/doctor/check-postgres.ts";
import { checkProgram } from "../../src/cli/doctor/check-program.ts";
import { checkServer } from "../../src/cli/doctor/check-server.ts";
import { checkIndexes, inspectDomains } from "../../src/cli/doctor/inspect-domains.ts";
import { inspectStorage } from "../../src/cli/doctor/inspect-storage.ts";
import type { Database, Row } from "../../src/storage/database/database.ts";
import { databaseEngines } from "../support/postgres/databases.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** Creates a database that returns, for each statement, the rows of the first pattern that matches it. */
function answering(...answers: readonly [pattern: RegExp, rows: readonly Row[]][]): Database {
  const query = async ({ text }: { text: string }) =>
    answers.find(([pattern]) => pattern.test(text))?.[1] ?? [];
  return { query } as unknown as Database;
}

const notOk = (checks: readonly Check[]) => checks.filter(({ status }) => status !== "ok");

describe("pgvector", () => {
  const engineWith = (installed: string | null, available: string) =>
    answering(
      [/server_version_num/, [{ version: "18.1", number: 180_001, pgvector: installed ?? available }]],
      [/pg_database_size/, [{ bytes: 8e6 }]],
      [/default_version as available/, [{ name: "vector", installed, available }]],
    );

  test.each([
    [null, "0.8.7", "ok", /0\.8\.7; the first migration installs it/],
    ["0.8.7", "0.8.7", "ok", /^pgvector 0\.8\.7$/],
    ["0.8.3", "0.8.3", "warning", /known bugs in vacuum/],
    ["0.8.5", "0.8.7", "warning", /0\.8\.5 is installed, but the server provides 0\.8\.7/],
  ])("%s installed and %s available is %s", async (installed, available, status, detail) => {
    const checks = await checkEngine(engineWith(installed, available), "here");
    expect(checks.find(({ name }) => name === "pgvector")).toMatchObject({
      status,
      detail: expect.stringMatching(detail),
    });
  });
});

describe("a PostgreSQL server", () => {
  const healthy = {
    read_only: false,
    can_create: true,
    encoding: "UTF8",
    unsafe: null,
    max_connections: 97,
    encrypted: false,
  };
  const local = { host: "127.0.0.1", port: 5432 };

  test.each([
    [{}, local, []],
    [{ read_only: true }, local, ["postgresql: problem"]],
    [{ can_create: false }, local, ["privileges: problem"]],
    [{ can_create: null }, local, ["privileges: problem"]],
    [{ encoding: "SQL_ASCII" }, local, ["encoding: problem"]],
    [{ unsafe: "fsync = off" }, local, ["durability: warning"]],
    [{ max_connections: 10 }, local, ["connections: warning"]],
    [{}, { host: "db.example", port: 5432 }, ["network: warning"]],
    [{ encrypted: true }, { host: "db.example", port: 5432 }, []],
    [{}, { host: "127.0.0.1", port: 6432 }, ["pooler: warning"]],
  ])("with %j at %j", async (facts, place, expected) => {
    const database = answering([/transaction_read_only/, [{ ...healthy, ...facts }]]);
    const checks = await checkPostgres(database, place, readConfig({}).settings);
    expect(notOk(checks).map(({ name, status }) => `${name}: ${status}`)).toEqual(expected);
    for (const { remedy } of notOk(checks)) expect(remedy).toBeTruthy();
  });
});

test.each([
  [undefined, "ok", /MEMORY_PORT=0/],
  [{ kind: "absent", url: "http://h" }, "ok", /no server is running/],
  [
    { kind: "unrecognized", url: "http://h", reason: "no HTTP" },
    "problem",
    /not a memory-service that responds \(no HTTP\)/,
  ],
  [{ kind: "server", url: "http://h", ready: true, checks: {} }, "ok", /and ready$/],
  [
    { kind: "server", url: "http://h", ready: true, checks: { embedder: { ok: false, detail: "gone" } } },
    "warning",
    /embedder: gone/,
  ],
  [
    { kind: "server", url: "http://h", ready: false, checks: { database: { ok: false, detail: "gone" } } },
    "problem",
    /but not ready: database: gone/,
  ],
] as const satisfies [ServerProbe | undefined, string, RegExp][])(
  "reports the server %j as %s",
  (answer, status, detail) => {
    expect(checkServer(answer)).toMatchObject({ status, detail: expect.stringMatching(detail) });
  },
);

test.each([
  [{}, []],
  [{ MEMORY_PROT: "1" }, [/MEMORY_PROT is not a known setting/]],
  [{ OLLAMA_API_URL: "http://10.0.0.7:11434" }, [/is sent to Ollama at 10\.0\.0\.7:11434 unencrypted/]],
  [{ OLLAMA_API_URL: "http://ollama:11434" }, []],
  [{ OLLAMA_API_URL: "https://ollama.example" }, []],
])("warns about the settings %j", (environment, details) => {
  const found = notOk(checkProgram(readConfig(environment), environment));
  expect(found.map(({ detail }) => detail)).toEqual(details.map((detail) => expect.stringMatching(detail)));
});

describe("the model", () => {
  test.each([
    ["nomic-embed-text", {}, "ok", /768 dimensions \(digest 0a109f422b47, profile nomic\/1\)/],
    ["llama3", {}, "problem", /"llama3" does not produce embeddings/],
    ["absent", {}, "warning", /the server pulls it/],
    ["absent", { MEMORY_PULL_MODEL: "false" }, "problem", /MEMORY_PULL_MODEL is false/],
  ])("%s with %j is %s", async (model, settings, status, detail) => {
    await using ollama = await startFakeOllama();
    const { checks } = await checkEmbedder(
      readConfig({ OLLAMA_API_URL: ollama.url, OLLAMA_EMBEDDING_MODEL: model, ...settings }).settings,
    );
    expect(checks.map(({ name }) => name)).toEqual(["ollama", "model"]);
    expect(checks[1]).toMatchObject({ status, detail: expect.stringMatching(detail) });
  });
});

describe("a domain", () => {
  const space = { model: "m:latest", digest: "d", dimensions: 3, profile: "p/1" };
  const embedder = { checks: [], model: "m:latest", space };
  const report: DomainReport = {
    name: "work",
    model: "m:latest",
    dimensions: 3,
    embeddingVersion: 1,
    memories: 5,
    pending: 0,
    failed: 0,
    olderVersions: 0,
  };
  const domain = { report, digest: "d", profile: "p/1", ownModel: false, failureReason: undefined };

  test.each([
    [domain, []],
    [
      { ...domain, report: { ...report, model: "old", dimensions: 4 } },
      [/\(4 dimensions, now 3\): the server re-embeds/],
    ],
    [{ ...domain, report: { ...report, model: "old", memories: 0 } }, []],
    [{ ...domain, digest: "older" }, [/by another version of m:latest/]],
    [{ ...domain, report: { ...report, model: "own" }, ownModel: true }, []],
    [{ ...domain, report: { ...report, failed: 1 }, failureReason: "NaN" }, [/^1 memory of .* \(NaN\)/]],
    [{ ...domain, report: { ...report, olderVersions: 2 } }, [/^2 memories of .* older version/]],
  ])("%j", (inspected, details) => {
    const found = checkDomains([inspected], embedder);
    expect(found.map(({ detail }) => detail)).toEqual(details.map((detail) => expect.stringMatching(detail)));
  });
});

describe.each(databaseEngines())("in a database on $name", (engine) => {
  test("counts memories by state and version, without expired ones", async () => {
    const database = await engine.open();
    try {
      await database.execute(`
        select create_domain_memories_table('work', 3);
        insert into memory_embedding_versions (model, digest, dimensions, profile, chunker)
          values ('m:latest', 'd', 3, 'p/1', 1);
        update memory_domains set embedding_version = 1;
        insert into work_memories (id, content, metadata, embedding_state, embedding_version, embedding_error, expires_at)
        values ('a', 'a', '{}', 'pending', null, null, null), ('b', 'b', '{}', 'failed', null, 'NaN', null),
          ('c', 'c', '{}', 'ready', 1, null, null), ('d', 'd', '{}', 'ready', 7, null, null),
          ('e', 'e', '{}', 'ready', 1, null, now() - interval '1 hour')`);
      const { checks, domains } = await inspectDomains(database);
      expect(checks).toEqual([]);
      expect(domains).toEqual([
        {
          report: {
            name: "work",
            model: "m:latest",
            dimensions: 3,
            embeddingVersion: 1,
            memories: 4,
            pending: 1,
            failed: 1,
            olderVersions: 1,
          },
          digest: "d",
          profile: "p/1",
          ownModel: false,
          failureReason: "NaN",
        },
      ]);
      expect(await checkIndexes(database, domains)).toEqual([]);

      await database.execute(`
        update pg_index set indisvalid = false where indexrelid = 'work_memories_text_idx'::regclass`);
      expect(await checkIndexes(database, domains)).toMatchObject([
        { status: "warning", detail: expect.stringContaining("work_memories_text_idx is invalid") },
      ]);
      await database.execute("select create_domain_memories_table('work')");
      expect(await checkIndexes(database, domains)).toEqual([]);

      await database.execute("drop table work_chunks, work_memories");
      expect(await inspectDomains(database)).toMatchObject({
        domains: [],
        checks: [{ status: "problem", detail: 'domain "work" exists but its table does not' }],
      });
    } finally {
      await database.close();
    }
  });

  test("reports a database with pending migrations, and one that is newer than the program", async () => {
    const database = await engine.open();
    try {
      expect(await checkMigrations(database, true)).toMatchObject({ status: "ok", detail: "up to date" });
      await database.execute("delete from memory_migrations where id = 1");
      expect(await checkMigrations(database, true)).toMatchObject({
        status: "warning",
        detail: "1 pending: 000001_create_catalogue",
      });
      expect(await checkMigrations(database, false)).toMatchObject({
        status: "problem",
        remedy: 'run "memory-service migrate"',
      });
      await database.execute(
        "insert into memory_migrations (id, name, checksum) values (999999, 'later', '')",
      );
      expect(await checkMigrations(database, true)).toMatchObject({
        status: "problem",
        detail: expect.stringContaining("newer than this program"),
        remedy: "run the version of the program that applied it, or a newer one",
      });
    } finally {
      await database.close();
    }
  });
});

test("reports an unusable data directory as a problem with a remedy", async () => {
  const { path, remove } = await temporaryDirectory();
  try {
    const config = readConfig({ MEMORY_DATA_DIR: `${import.meta.filename}/data` });
    const { checks } = await inspectStorage(config, undefined);
    expect(checks).toMatchObject([
      { name: "database", status: "problem", detail: expect.stringContaining("is not a directory") },
    ]);
    const fine = await inspectStorage(readConfig({ MEMORY_DATA_DIR: `${path}/a/b` }), undefined);
    expect(fine.checks[0]).toMatchObject({ name: "database", status: "ok" });
  } finally {
    await remove();
  }
});
