import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { envExample } from "../../scripts/write-env-example.ts";
import { readConfig, SettingsError } from "../../src/app/config.ts";
import { SETTINGS } from "../../src/app/settings.ts";
import { databaseName, isRemote, withoutSecrets } from "../../src/cli/client/addresses.ts";
import { describeUnknownSetting, findUnknownSettings } from "../../src/cli/unknown-settings.ts";

const open = { MEMORY_ALLOW_UNAUTHENTICATED: "true" };

describe("readConfig", () => {
  test.each([
    [{ MEMORY_HOST: "::1" }],
    [{ MEMORY_HOST: "::", ...open }],
    [{ MEMORY_HOST: "memory.internal", ...open }],
    [{ DATABASE_URL: "postgres://u:p%40ss@host:5433/db?sslmode=verify-full" }],
    [{ DATABASE_URL: "postgresql://u@/db?host=/run/postgresql" }],
    [{ OLLAMA_API_URL: "https://u:p%25@ollama.example/base" }],
    [{ MEMORY_ALLOWED_HOSTS: "memory.test, memory.test:8080" }],
    [{ MEMORY_ALLOWED_ORIGINS: "https://App.example.com,http://localhost:3000" }],
    [{ MEMORY_PORT: "" }],
  ])("takes %j", (environment) => {
    expect(() => readConfig(environment)).not.toThrow();
  });

  test.each([
    [{ MEMORY_HOST: "localhost:50051" }, "MEMORY_HOST must be a host name or an IP address, without a port"],
    [{ MEMORY_HOST: "0.0.0.0" }, "set MEMORY_ALLOW_UNAUTHENTICATED=true if the network is trusted"],
    [{ MEMORY_PORT: "1e3" }, 'MEMORY_PORT must be a whole number from 0 to 65535, got "1e3"'],
    [{ MEMORY_MIGRATE: "yes" }, 'MEMORY_MIGRATE must be true or false, got "yes"'],
    [{ MEMORY_LOG_LEVEL: "loud" }, "MEMORY_LOG_LEVEL must be one of debug, info, warn, error, silent"],
    [{ DEFAULT_MEMORY_DOMAIN: "Work" }, "DEFAULT_MEMORY_DOMAIN must be a lower-case letter, then at most 39"],
    [{ DATABASE_URL: "mysql://host/db" }, "DATABASE_URL must be a postgres:// or postgresql:// URL"],
    [{ DATABASE_URL: "postgres://u:p#hidden@host/db" }, "# as %23"],
    [{ DATABASE_URL: "postgres://u:50%hidden@host/db" }, "% as %25"],
    [
      { OLLAMA_API_URL: "localhost:11434" },
      'OLLAMA_API_URL must be an http:// or https:// URL, got "localhost',
    ],
    [{ OLLAMA_API_URL: "ftp://u:hidden@host" }, "OLLAMA_API_URL must be an http:// or https:// URL"],
    [{ OLLAMA_API_URL: "http://u:50%hidden@host" }, "OLLAMA_API_URL must be an http:// or https:// URL"],
    [{ MEMORY_ALLOWED_ORIGINS: "app.example.com" }, "MEMORY_ALLOWED_ORIGINS must be origins"],
    [{ MEMORY_ALLOWED_HOSTS: "https://app.example.com" }, "MEMORY_ALLOWED_HOSTS must be host names"],
  ])("rejects %j by name without showing a password", (environment, sentence) => {
    const read = () => readConfig(environment);
    expect(read).toThrow(SettingsError);
    expect(read).toThrow(sentence);
    expect(read).not.toThrow("hidden");
  });

  test("takes every default of the table as it is documented", () => {
    const defaults = Object.entries(SETTINGS).map(([name, setting]) => [name, setting.default ?? ""]);
    const { settings } = readConfig(Object.fromEntries(defaults));
    expect(settings).toEqual(readConfig({}).settings);
  });
});

test(".env.example has every setting at its default", () => {
  expect(readFileSync(new URL("../../.env.example", import.meta.url), "utf8")).toBe(envExample());
  for (const name of Object.keys(SETTINGS)) expect(envExample()).toContain(`\n#${name}=`);
});

test("reports unknown variables that start with MEMORY_ and suggests the nearest setting", () => {
  const environment = {
    MEMORY_PROT: "1",
    MEMORY_LIMIT_OF_CGROUP: "1",
    MEMORY_PORT: "1",
    PATH: "/bin",
    MEMORY_X: "",
  };
  expect(findUnknownSettings(environment).map(describeUnknownSetting)).toEqual([
    "MEMORY_PROT is not a known setting; did you mean MEMORY_PORT?",
    "MEMORY_LIMIT_OF_CGROUP is not a known setting",
  ]);
});

describe("displayed addresses", () => {
  test.each([
    [
      { DATABASE_URL: "postgres://u:secret@db.example:5433/memories?password=secret" },
      "db.example:5433/memories",
    ],
    [{ DATABASE_URL: "postgres://u:secret@[::1]/memories" }, "[::1]:5432/memories"],
    [{ DATABASE_URL: "postgres://u:secret@/memories?host=/run/postgresql" }, "/run/postgresql:5432/memories"],
    [{ DATABASE_URL: "postgres://u:secret@db" }, "db:5432/u"],
    [{ POSTGRES_HOST: "db", POSTGRES_PASSWORD: "secret" }, "db:5432/postgres"],
    [{ MEMORY_DATA_DIR: "/var/lib/memory" }, "/var/lib/memory"],
  ])("of the database of %j", (environment, name) => {
    expect(databaseName(readConfig(environment))).toBe(name);
  });

  test("omit the password of Ollama", () => {
    expect(withoutSecrets("http://u:secret@ollama:11434/base/?token=secret")).toBe(
      "http://ollama:11434/base",
    );
  });

  test.each([
    ["127.0.0.1", false],
    ["[::1]", false],
    ["localhost", false],
    ["/run/postgresql", false],
    ["ollama", false],
    ["host.docker.internal", false],
    ["10.0.0.7", true],
    ["db.example", true],
    ["2001:db8::1", true],
  ])("%s is remote: %j", (host, remote) => {
    expect(isRemote(host)).toBe(remote);
  });
});
