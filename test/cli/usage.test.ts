import { describe, expect, test } from "vitest";
import { runProgram } from "../support/server/server-process.ts";

const COMMANDS =
  "serve, migrate, doctor, version, healthcheck, create-key, store, search, get, list, delete, domains, export, import, mcp, import-legacy, adopt, compare";

/** A usage error prints one sentence, and the exit code is 2. */
const mistakes: readonly [
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  sentence: string | RegExp,
][] = [
  [[], {}, `no command given; available commands: ${COMMANDS}`],
  [["srve"], {}, `unknown command "srve"; available commands: ${COMMANDS}`],
  [["doctor", "--jsn"], {}, 'unknown option "--jsn" of doctor; available options: --json, --help'],
  [["search", "two", "words"], {}, "search takes 1 argument; quote an argument that contains spaces"],
  [["search"], {}, "missing required argument 'query'"],
  [
    ["get", "m", "--server", "nowhere"],
    {},
    '--server must be a URL such as http://127.0.0.1:50051, got "nowhere"',
  ],
  [["get", "m"], {}, "MEMORY_PORT must be the port of the server, got 0"],
  [["list", "--limit", "x"], {}, '--limit must be a whole number, got "x"'],
  [["list", "--filter", "[]"], {}, /^--filter must be a Filter in protobuf's JSON form: /],
  [["store", "x", "--ttl", "soon"], {}, '--ttl must be a duration such as 90s, 30m, 12h or 7d, got "soon"'],
  [["store", "x", "--metadata", "1"], {}, "--metadata must be a JSON object, got 1"],
  [
    ["import", "f", "--if-exists", "ask"],
    {},
    "option '--if-exists <action>' argument 'ask' is invalid. Allowed choices are fail, replace, keep.",
  ],
  [
    ["import-legacy"],
    {},
    "import-legacy requires the data directory of the old server, which contains memory.db",
  ],
  [
    ["import-legacy", ".", "--verify", "--dry-run"],
    {},
    "--dry-run and --verify cannot be combined; use one of them",
  ],
  [
    ["import-legacy", ".", "--on-conflict", "ask"],
    {},
    "option '--on-conflict <action>' argument 'ask' is invalid. Allowed choices are skip, rename, replace.",
  ],
  [["create-key", "--name", "a b", "--scope", "metrics"], {}, /^the key must have a name of 1 to 64 letters/],
  [
    ["create-key", "--name", "ci", "--scope", "read:a*"],
    {},
    /^the key must have a list of scopes, each read:DOMAIN/,
  ],
  [
    ["create-key", "--name", "ci", "--scope", "metrics", "--expires", "soon"],
    {},
    '--expires must be a date such as 2030-01-31, got "soon"',
  ],
  [["serve", "now"], {}, 'serve takes no arguments, got "now"'],
  [["serve"], { MEMORY_PORT: "65536" }, 'MEMORY_PORT must be a whole number from 0 to 65535, got "65536"'],
  [["healthcheck"], {}, "MEMORY_PORT must be the port of the server, got 0"],
];

test.each(mistakes)("%j with %j prints one sentence and exits with code 2", async (args, env, sentence) => {
  const { code, stdout, stderr } = await runProgram(args, { env });
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  const [sentenceShown, ...more] = stderr.replace("memory-service: ", "").split("\n");
  expect({ sentenceShown, more }).toEqual({
    sentenceShown: sentence instanceof RegExp ? expect.stringMatching(sentence) : sentence,
    more: [""],
  });
});

test("lists all invalid and contradictory settings at once", async () => {
  const env = { DATABASE_URL: "postgres://db/memories", POSTGRES_HOST: "db", MEMORY_POOL_SIZE: "1" };
  const { code, stderr } = await runProgram(["doctor"], { env });
  expect(code).toBe(2);
  expect(stderr.split("\n")).toEqual([
    "memory-service: 2 settings are invalid:",
    '  - MEMORY_POOL_SIZE must be a whole number from 2 to 1000, got "1"',
    "  - DATABASE_URL and POSTGRES_HOST are both set: set only one of them",
    "",
  ]);
});

describe("prints to standard output", () => {
  test("the versions", async () => {
    const { code, stdout, stderr } = await runProgram(["version"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(
      /^memory-service \d+\.\d+\.\d+\nnode \d+\.\d+\.\d+\nmemory-service-client \d+\.\d+\.\d+ \(memoryservice\.v1\)\n$/,
    );
  });

  test("help with every command, and help of serve with every setting", async () => {
    const all = await runProgram(["--help"]);
    expect({ code: all.code, stderr: all.stderr }).toEqual({ code: 0, stderr: "" });
    for (const command of COMMANDS.split(/, | or /)) {
      expect(all.stdout).toMatch(new RegExp(`^  ${command} `, "m"));
    }
    const ofServe = await runProgram(["serve", "--help"]);
    expect(ofServe.code).toBe(0);
    expect(ofServe.stdout).toContain("  MEMORY_POOL_SIZE\n");
  });
});

test("healthcheck fails with one sentence if no server is running", async () => {
  const { code, stdout, stderr } = await runProgram(["healthcheck"], { env: { MEMORY_PORT: "9" } });
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toMatch(/^memory-service: .*http:\/\/127\.0\.0\.1:9\b.*\n$/);
});
