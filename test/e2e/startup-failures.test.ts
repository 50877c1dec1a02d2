import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { expect, test, vi } from "vitest";
import { expectRefusal } from "../support/expect-refusal.ts";
import { createDataDirectory } from "../support/postgres/data-directory.ts";
import { runProgram, startServerProcess } from "../support/server/server-process.ts";

// Allows several first starts of the embedded engine on a busy machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });

/** Exit code for an invalid command or setting. */
const EXIT_USAGE = 2;

test("a second server on the same data directory is refused while the first keeps serving", async () => {
  await using data = await createDataDirectory();
  await using first = await startServerProcess({ env: data.env });
  await expectRefusal(data.env, /the data directory \S+ is in use by another process: stop that one/);
  expect((await fetch(`${first.url}/readyz`)).status).toBe(200);
});

test("a new server can use the data directory of a killed one", async () => {
  await using data = await createDataDirectory();
  await using first = await startServerProcess({ env: data.env });
  await first.kill();
  await using second = await startServerProcess({ env: data.env });
  expect((await second.stop()).code).toBe(0);
});

test("names a port that is in use", async () => {
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

test("names a PostgreSQL server that is unreachable", async () => {
  await expectRefusal(
    { DATABASE_URL: "postgres://postgres@127.0.0.1:1/postgres" },
    /cannot reach PostgreSQL: .*127\.0\.0\.1:1/,
  );
});

test("reports all invalid settings at once", async () => {
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
  expect(heading).toBe("memory-service: 5 settings are invalid:");
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
  ["an unknown command", ["swerve"], /unknown command "swerve"; available commands: serve/],
  ["an unknown option", ["serve", "--prot"], /unknown option "--prot" of serve/],
])("%s is refused", async (_name, args, sentence) => {
  const { code, stderr } = await runProgram(args);
  expect(stderr).toMatch(sentence);
  expect(stderr).not.toMatch(/\.ts:\d+/);
  expect(code).toBe(EXIT_USAGE);
});
