import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import type { Check, Report } from "../../src/cli/doctor/check.ts";
import { sqlDirectory } from "../../src/storage/migrations/migrations.ts";
import { readMigrations } from "../../src/storage/migrations/read-migrations.ts";
import { serverEngines } from "../support/server/server-engines.ts";
import { openGrpcClient, runProgram, startServerProcess } from "../support/server/server-process.ts";

type Environment = Readonly<Record<string, string>>;

/** Returns the report of `doctor --json`, with the exit code. */
async function runDoctor(env: Environment): Promise<Report & { readonly code: number | null }> {
  const { code, stdout, stderr } = await runProgram(["doctor", "--json"], { env });
  expect(stderr).toBe("");
  return { code, ...(JSON.parse(stdout) as Report) };
}

/** Returns the checks that are not ok, as `name: status`. */
function notOk({ checks }: Report): string[] {
  return checks.filter(({ status }) => status !== "ok").map(({ name, status }) => `${name}: ${status}`);
}

function check({ checks }: Report, name: string): Check {
  const found = checks.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no check ${name} in ${JSON.stringify(checks)}`);
  return found;
}

/** Stores three memories on a server and runs doctor while it is running. */
async function storeThree(env: Environment): Promise<Report & { readonly code: number | null }> {
  await using server = await startServerProcess({ env });
  using connection = openGrpcClient(server.url);
  for (const content of ["one", "two", "three"]) await connection.client.store({ content, domain: "work" });
  const running = { ...env, MEMORY_PORT: String(server.port) };
  const [healthcheck, report] = await Promise.all([
    runProgram(["healthcheck"], { env: running }),
    runDoctor(running),
  ]);
  expect(healthcheck).toMatchObject({ code: 0, stdout: "ready\n", stderr: "" });
  await server.stop();
  return report;
}

const migrationNames = (await readMigrations(sqlDirectory)).map(({ name }) => name);

describe.each(serverEngines())("on $name", ({ name, create }) => {
  /** The embedded engine always gets this warning. */
  const usual = name === "embedded" ? ["durability: warning"] : [];

  test("migrate --print and doctor change nothing, from an empty database to a full one", {
    timeout: 120_000,
  }, async () => {
    await using data = await create({ empty: true });
    await using ollama = await startFakeOllama();
    // A subdirectory, so that the test notices if a command creates it.
    const directory = join(data.env.MEMORY_DATA_DIR ?? "", "data");
    const engine = name === "embedded" ? { MEMORY_DATA_DIR: directory } : data.env;
    const env = { ...engine, OLLAMA_API_URL: ollama.url };

    const printed = await runProgram(["migrate", "--print"], { env });
    expect(printed).toMatchObject({ code: 0, stderr: "" });
    for (const migration of migrationNames) expect(printed.stdout).toContain(`-- ${migration}\nbegin;\n`);
    const empty = await runDoctor(env);
    expect(empty).toMatchObject({ code: 0, domains: [] });
    expect(existsSync(directory)).toBe(false);

    const first = await runProgram(["migrate"], { env });
    expect(first).toMatchObject({ code: 0, stderr: "" });
    // All migrations: neither --print nor doctor has applied one.
    expect(first.stdout).toBe(migrationNames.map((migration) => `applied ${migration}\n`).join(""));
    const second = await runProgram(["migrate"], { env });
    expect(second).toMatchObject({ code: 0, stdout: "already up to date\n", stderr: "" });
    const nothing = await runProgram(["migrate", "--print"], { env });
    expect(nothing.stdout).toBe("-- already up to date\n");

    const running = await storeThree(env);
    expect(running.code).toBe(0);
    expect(running.domains).toMatchObject([
      { name: "default", memories: 0 },
      { name: "work", memories: 3, failed: 0 },
    ]);
    expect(check(running, "server").detail).toMatch(/^running at .* and ready$/);
    if (name === "embedded")
      expect(check(running, "database").detail).toMatch(/in use by the running server/);

    const fine = await runDoctor(env);
    expect(fine.code).toBe(0);
    expect(notOk(fine)).toEqual(usual);
    expect(check(fine, "migrations").detail).toBe("up to date");
    expect(check(fine, "model").detail).toMatch(/^nomic-embed-text:latest works, with 768 dimensions/);
    const counts = {
      pending: 0,
      failed: 0,
      olderVersions: 0,
      model: "nomic-embed-text:latest",
      dimensions: 768,
    };
    expect(fine.domains).toMatchObject([
      { name: "default", memories: 0 },
      { name: "work", memories: 3, ...counts },
    ]);

    const missing = await runDoctor({ ...env, OLLAMA_EMBEDDING_MODEL: "bge-m3" });
    expect(missing.code).toBe(0);
    expect(notOk(missing)).toEqual([...usual, "model: warning", "domain: warning"]);
    expect(check(missing, "model").remedy).toBe('to pull it now, run "ollama pull bge-m3"');
    expect(check(missing, "domain")).toMatchObject({
      detail: expect.stringContaining("re-embeds its 3 memories"),
      remedy: "to keep its embeddings, set OLLAMA_EMBEDDING_MODEL=nomic-embed-text:latest",
    });
    expect(ollama.requests.filter(({ path }) => path === "/api/pull")).toEqual([]);

    await ollama.down();
    const away = await runProgram(["doctor"], { env });
    expect(away.code).toBe(1);
    expect(away.stdout).toMatch(
      /^problem +ollama +Ollama is not listening.*\n +-> start it with "ollama serve"/m,
    );
    expect(away.stdout).toMatch(/^work +3 +0 +0 +0 +nomic-embed-text:latest, 768 dimensions$/m);
    expect(away.stdout).toMatch(new RegExp(`^1 problem, ${usual.length} warnings?$`, "m"));
  });
});
