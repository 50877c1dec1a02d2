import { expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { createDataDirectory } from "../support/postgres/data-directory.ts";
import { runProgram, startServerProcess } from "../support/server/server-process.ts";
import { startRefusingPostgres } from "./refusing-postgres.ts";

const SECRET = "hunter2";
const REFUSED = 'password authentication failed for user "agent"';

/** The same failing login, configured in each of the two ways. */
function refusedSettings(port: number): Record<string, string>[] {
  const [host, user, db] = ["127.0.0.1", "agent", "memories"];
  const address = { POSTGRES_HOST: host, POSTGRES_PORT: String(port), POSTGRES_USER: user, POSTGRES_DB: db };
  return [
    { DATABASE_URL: `postgres://${user}:${SECRET}@${host}:${port}/${db}` },
    { ...address, POSTGRES_PASSWORD: SECRET },
  ];
}

test("serve and doctor report a wrong password with a remedy and never show it", {
  timeout: 60_000,
}, async () => {
  await using server = await startRefusingPostgres("28P01", REFUSED);
  for (const settings of refusedSettings(server.port)) {
    const env = {
      ...settings,
      MEMORY_LOG_LEVEL: "debug",
      OLLAMA_API_URL: `http://agent:${SECRET}@127.0.0.1:${server.port}`,
    };
    const [serve, doctor] = await Promise.all([
      runProgram(["serve"], { env }),
      runProgram(["doctor"], { env }),
    ]);
    expect([serve.code, doctor.code]).toEqual([1, 1]);
    expect(serve.stderr).toBe(
      `memory-service: PostgreSQL refused the login: ${REFUSED}: check the user and password in DATABASE_URL, ` +
        "or POSTGRES_USER and POSTGRES_PASSWORD\n",
    );
    expect(doctor.stdout).toMatch(
      /^problem +database +PostgreSQL refused the login.*\n +-> check the user and password/m,
    );
    expect(doctor.stderr).toBe("");
    expect(`${serve.stdout}${serve.stderr}${doctor.stdout}`).not.toContain(SECRET);
  }
});

test("a server does not log passwords", { timeout: 120_000 }, async () => {
  await using ollama = await startFakeOllama({ installed: [] });
  await using data = await createDataDirectory();
  const url = new URL(ollama.url);
  url.username = "agent";
  url.password = SECRET;
  const env = {
    ...data.env,
    OLLAMA_API_URL: url.href,
    MEMORY_LOG_LEVEL: "debug",
    MEMORY_PULL_MODEL: "false",
  };
  await using server = await startServerProcess({ env });
  await server.whenLogged(({ msg }) => /ollama pull nomic-embed-text/.test(msg ?? ""));
  expect(server.logs[0]).toMatchObject({
    msg: "starting",
    engine: "embedded",
    model: "nomic-embed-text",
    domain: "default",
    listen: "127.0.0.1:0",
    ollama: ollama.url,
  });
  await server.stop();
  expect(JSON.stringify(server.logs) + server.stderr()).not.toContain(SECRET);
});
