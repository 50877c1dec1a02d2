import { describe, expect, test } from "vitest";
import { readConfig } from "../../src/app/config.ts";
import { SETTINGS, type Setting } from "../../src/app/settings.ts";
import { isLoopbackHost } from "../../src/util/loopback.ts";

const settings = Object.entries<Setting<unknown>>(SETTINGS);

/** Returns the problems of an environment, without the dashes of the list. */
function problemsOf(environment: Readonly<Record<string, string>>): string[] {
  try {
    readConfig(environment);
    return [];
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "StartupError") throw error;
    const [first = "", ...more] = error.message.split("\n");
    return more.length === 0 ? [first] : more.map((line) => line.replace("  - ", ""));
  }
}

describe("an empty environment", () => {
  test("gives every setting its documented default", () => {
    expect(readConfig({})).toEqual({
      postgres: undefined,
      settings: {
        MEMORY_HOST: "127.0.0.1",
        MEMORY_PORT: 50_051,
        MEMORY_ALLOW_UNAUTHENTICATED: false,
        MEMORY_API_KEYS_FILE: undefined,
        MEMORY_API_KEYS: undefined,
        MEMORY_JWT_ISSUER: undefined,
        MEMORY_JWT_AUDIENCE: undefined,
        MEMORY_JWT_JWKS_URL: undefined,
        MEMORY_JWT_KEY_FILE: undefined,
        MEMORY_AUDIT_FILE: undefined,
        MEMORY_TLS_CERT_FILE: undefined,
        MEMORY_TLS_KEY_FILE: undefined,
        MEMORY_TLS_CLIENT_CA_FILE: undefined,
        MEMORY_API_KEY: undefined,
        MEMORY_CA_FILE: undefined,
        MEMORY_CLIENT_CERT_FILE: undefined,
        MEMORY_CLIENT_KEY_FILE: undefined,
        MEMORY_ALLOWED_HOSTS: undefined,
        MEMORY_ALLOWED_ORIGINS: undefined,
        DATABASE_URL: undefined,
        POSTGRES_HOST: undefined,
        POSTGRES_PORT: 5_432,
        POSTGRES_DB: "postgres",
        POSTGRES_USER: "postgres",
        POSTGRES_PASSWORD: undefined,
        MEMORY_DATA_DIR: "./data",
        MEMORY_POOL_SIZE: 10,
        MEMORY_STATEMENT_TIMEOUT_MS: 30_000,
        MEMORY_PREPARED_STATEMENTS: true,
        MEMORY_MIGRATE: true,
        DEFAULT_MEMORY_DOMAIN: "default",
        MEMORY_CREATE_DOMAINS: true,
        MEMORY_MAX_CALLS: 500,
        MEMORY_MAX_DOMAINS: 0,
        OLLAMA_API_URL: "http://127.0.0.1:11434",
        OLLAMA_EMBEDDING_MODEL: "nomic-embed-text",
        MEMORY_MODEL_PROFILES: undefined,
        MEMORY_PULL_MODEL: true,
        MEMORY_EMBED_BUDGET_MS: 2_000,
        MEMORY_REFLECTION: true,
        MEMORY_METRICS: true,
        MEMORY_SHUTDOWN_GRACE_MS: 10_000,
        MEMORY_LOG_LEVEL: "info",
      },
    });
  });

  test("equals one with empty variables", () => {
    const blank = Object.fromEntries(settings.map(([name]) => [name, ""]));
    expect(readConfig(blank)).toEqual(readConfig({}));
  });

  test("yields a frozen config", () => {
    const config = readConfig({});
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.isFrozen(config.settings)).toBe(true);
  });
});

describe("every setting", () => {
  test.each(settings)("%s is described, in one or two sentences", (name, setting) => {
    expect(name).toMatch(
      /^(MEMORY_[A-Z_]+|DATABASE_URL|POSTGRES_[A-Z]+|OLLAMA_[A-Z_]+|DEFAULT_MEMORY_DOMAIN)$/,
    );
    expect(setting.description).toMatch(/^[A-Z].*\.$/s);
    expect(setting.description.length).toBeLessThan(160);
    expect(setting.allowed).not.toBe("");
    if (name.endsWith("_MS")) expect(setting.unit).toBe("ms");
  });

  test.each(settings)("%s allows its default", (_name, setting) => {
    if (setting.default !== undefined) expect(setting.parse(setting.default)).toBeDefined();
  });

  const integers = settings.filter(([, { kind }]) => kind === "integer");
  test.each(integers)("%s is a whole number within its bounds", (name, { allowed }) => {
    const [, min, max] = /^a whole number from (\d+) to (\d+)$/.exec(allowed) ?? [];
    for (const value of [min, max])
      expect(readConfig({ [name]: String(value) }).settings).toMatchObject({ [name]: Number(value) });
    const below = Number(min) - 1;
    for (const value of [
      String(below),
      String(Number(max) + 1),
      "1.5",
      "1e3",
      "0x10",
      " 7",
      "7 ",
      "ten",
      "NaN",
      "Infinity",
    ]) {
      expect(problemsOf({ [name]: value })).toContain(
        `${name} must be ${allowed}, got ${JSON.stringify(value)}`,
      );
    }
  });

  const booleans = settings.filter(([, { kind }]) => kind === "boolean");
  test.each(booleans)("%s is true or false", (name) => {
    expect(readConfig({ [name]: "true" }).settings).toMatchObject({ [name]: true });
    expect(readConfig({ [name]: "false" }).settings).toMatchObject({ [name]: false });
    for (const value of ["1", "0", "yes", "TRUE", " true", "constructor", "__proto__", "toString"]) {
      expect(problemsOf({ [name]: value })).toEqual([
        `${name} must be true or false, got ${JSON.stringify(value)}`,
      ]);
    }
  });
});

describe("a value that is not allowed", () => {
  test.each([
    ["OLLAMA_API_URL", "localhost:11434"],
    ["OLLAMA_API_URL", "ftp://example.com"],
    ["OLLAMA_API_URL", "not a URL"],
    ["DEFAULT_MEMORY_DOMAIN", "Default"],
    ["DEFAULT_MEMORY_DOMAIN", "d".repeat(41)],
    ["DEFAULT_MEMORY_DOMAIN", 'a"b'],
    ["MEMORY_LOG_LEVEL", "verbose"],
    ["MEMORY_LOG_LEVEL", "INFO"],
    ["MEMORY_HOST", "127.0.0.1:50051"],
    ["MEMORY_ALLOWED_ORIGINS", "app.example.com"],
    ["MEMORY_ALLOWED_ORIGINS", "https://app.example.com/path"],
    ["MEMORY_ALLOWED_HOSTS", "https://app.example.com"],
  ])("of %s is reported with the allowed values: %s", (name, value) => {
    const { allowed } = SETTINGS[name as keyof typeof SETTINGS];
    expect(problemsOf({ [name]: value })).toEqual([
      `${name} must be ${allowed}, got ${JSON.stringify(value)}`,
    ]);
  });

  test("is reported together with all other problems", () => {
    const problems = problemsOf({
      MEMORY_PORT: "many",
      MEMORY_MIGRATE: "perhaps",
      OLLAMA_API_URL: "nowhere",
      DEFAULT_MEMORY_DOMAIN: "Default",
      DATABASE_URL: "mysql://localhost/x",
      POSTGRES_HOST: "localhost",
      MEMORY_HOST: "0.0.0.0",
    });
    expect(problems.map((problem) => /^[A-Z_]+/.exec(problem)?.[0]).sort()).toEqual([
      "DATABASE_URL",
      "DATABASE_URL",
      "DEFAULT_MEMORY_DOMAIN",
      "MEMORY_HOST",
      "MEMORY_MIGRATE",
      "MEMORY_PORT",
      "OLLAMA_API_URL",
    ]);
  });

  test("is the whole message if it is the only problem; several are counted", () => {
    expect(() => readConfig({ MEMORY_PORT: "x" })).toThrow(
      /^MEMORY_PORT must be a whole number from 0 to 65535, got "x"$/,
    );
    expect(() => readConfig({ MEMORY_PORT: "x", MEMORY_MIGRATE: "x" })).toThrow(
      /^2 settings are invalid:\n {2}- /,
    );
  });
});

describe("secrets", () => {
  const secret = "hunter2";

  test.each<[string, Record<string, string>]>([
    ["of another kind of database", { DATABASE_URL: `mysql://me:${secret}@host/db` }],
    ["that are no URL", { DATABASE_URL: `me:${secret}@host` }],
    ["in both ways", { DATABASE_URL: `postgres://me:${secret}@host/db`, POSTGRES_PASSWORD: secret }],
    ["beside other problems", { POSTGRES_PASSWORD: secret, MEMORY_PORT: "x" }],
    ["in a URL of Ollama", { OLLAMA_API_URL: `ftp://me:${secret}@host` }],
  ])("%s are not displayed", (_name, environment) => {
    const problems = problemsOf(environment);
    expect(problems).not.toEqual([]);
    expect(problems.join("\n")).not.toContain(secret);
  });
});

describe("the database", () => {
  test("is embedded unless a setting selects PostgreSQL", () => {
    expect(readConfig({ MEMORY_DATA_DIR: "/tmp/x", MEMORY_POOL_SIZE: "3" }).postgres).toBeUndefined();
  });

  test.each(["postgres://me@host/db", "postgresql://me:p%40ss@host:5433/db?sslmode=require"])(
    "is that of %s",
    (url) => {
      expect(readConfig({ DATABASE_URL: url }).postgres).toEqual({ connectionString: url });
    },
  );

  const defaults = {
    host: "127.0.0.1",
    port: 5_432,
    database: "postgres",
    user: "postgres",
    password: undefined,
  };
  test.each([
    ["POSTGRES_HOST", "db", { host: "db" }],
    ["POSTGRES_PORT", "5433", { port: 5_433 }],
    ["POSTGRES_DB", "memories", { database: "memories" }],
    ["POSTGRES_USER", "me", { user: "me" }],
    ["POSTGRES_PASSWORD", "secret", { password: "secret" }],
  ])("is PostgreSQL once %s is set", (name, value, expected) => {
    expect(readConfig({ [name]: value }).postgres).toEqual({ ...defaults, ...expected });
  });

  test("is rejected if configured in two ways", () => {
    expect(
      problemsOf({ DATABASE_URL: "postgres://me@host/db", POSTGRES_DB: "x", POSTGRES_USER: "y" }),
    ).toEqual(["DATABASE_URL and POSTGRES_DB, POSTGRES_USER are both set: set only one of them"]);
  });
});

describe("listening beyond loopback", () => {
  test.each(["0.0.0.0", "::", "192.168.1.5", "memory.example.com", "128.0.0.1", "127.evil.com"])(
    "on %s requires permission",
    (host) => {
      expect(problemsOf({ MEMORY_HOST: host })).toEqual([
        expect.stringMatching(/is reachable from other machines.*MEMORY_ALLOW_UNAUTHENTICATED=true/),
      ]);
      expect(problemsOf({ MEMORY_HOST: host, MEMORY_ALLOW_UNAUTHENTICATED: "true" })).toEqual([]);
    },
  );

  test.each(["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])("does not apply to %s", (host) => {
    expect(isLoopbackHost(host)).toBe(true);
    expect(problemsOf({ MEMORY_HOST: host })).toEqual([]);
  });
});

describe("credentials", () => {
  const jwt = { MEMORY_JWT_ISSUER: "https://issuer.example", MEMORY_JWT_AUDIENCE: "memory" };
  const jwks = { MEMORY_JWT_JWKS_URL: "https://issuer.example/keys" };

  test.each<[Readonly<Record<string, string>>]>([
    [{ MEMORY_API_KEYS_FILE: "keys" }],
    [{ MEMORY_API_KEYS: "#" }],
    [{ MEMORY_TLS_CERT_FILE: "c", MEMORY_TLS_KEY_FILE: "k", MEMORY_TLS_CLIENT_CA_FILE: "ca" }],
    [{ ...jwt, ...jwks }],
    [{ ...jwt, MEMORY_JWT_KEY_FILE: "key.pem", MEMORY_API_KEYS_FILE: "keys" }],
  ])("of %j allow to listen beyond loopback", (environment) => {
    expect(problemsOf({ ...environment, MEMORY_HOST: "0.0.0.0" })).toEqual([]);
  });

  test.each<[Readonly<Record<string, string>>, string]>([
    [
      { MEMORY_API_KEYS_FILE: "keys", MEMORY_API_KEYS: "#" },
      "MEMORY_API_KEYS and MEMORY_API_KEYS_FILE are both set",
    ],
    [{ ...jwt }, "MEMORY_JWT_ISSUER requires exactly one of MEMORY_JWT_JWKS_URL and MEMORY_JWT_KEY_FILE"],
    [{ ...jwt, ...jwks, MEMORY_JWT_KEY_FILE: "k" }, "MEMORY_JWT_ISSUER requires exactly one of"],
    [{ MEMORY_JWT_ISSUER: "i", ...jwks }, "MEMORY_JWT_ISSUER is set without MEMORY_JWT_AUDIENCE"],
    [{ MEMORY_JWT_AUDIENCE: "a" }, "MEMORY_JWT_AUDIENCE is set without MEMORY_JWT_ISSUER"],
    [jwks, "MEMORY_JWT_JWKS_URL is set without MEMORY_JWT_ISSUER"],
    [{ MEMORY_JWT_KEY_FILE: "k" }, "MEMORY_JWT_KEY_FILE is set without MEMORY_JWT_ISSUER"],
    [{ MEMORY_TLS_CERT_FILE: "c" }, "MEMORY_TLS_CERT_FILE is set without MEMORY_TLS_KEY_FILE"],
    [{ MEMORY_TLS_KEY_FILE: "k" }, "MEMORY_TLS_KEY_FILE is set without MEMORY_TLS_CERT_FILE"],
    [{ MEMORY_TLS_CLIENT_CA_FILE: "c" }, "MEMORY_TLS_CLIENT_CA_FILE is set without MEMORY_TLS_CERT_FILE"],
    [{ MEMORY_CLIENT_CERT_FILE: "c" }, "MEMORY_CLIENT_CERT_FILE is set without MEMORY_CLIENT_KEY_FILE"],
    [{ MEMORY_CLIENT_KEY_FILE: "k" }, "MEMORY_CLIENT_KEY_FILE is set without MEMORY_CLIENT_CERT_FILE"],
  ])("of %j are rejected", (environment, problem) => {
    expect(problemsOf(environment)).toEqual([expect.stringContaining(problem)]);
  });
});

test("lists are split at commas and trimmed", () => {
  const { settings: read } = readConfig({
    MEMORY_ALLOWED_HOSTS: " memory.local ,, memory:50051",
    MEMORY_ALLOWED_ORIGINS: "https://app.example.com,http://localhost:3000",
  });
  expect(read.MEMORY_ALLOWED_HOSTS).toEqual(["memory.local", "memory:50051"]);
  expect(read.MEMORY_ALLOWED_ORIGINS).toEqual(["https://app.example.com", "http://localhost:3000"]);
});
