import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseDockerfile } from "../../scripts/check-dockerfile/parse-dockerfile.ts";
import { readConfig } from "../../src/app/config.ts";
import { SETTINGS } from "../../src/app/settings.ts";
import { RECOMMENDED_PGVECTOR } from "../../src/storage/database/server/check-server.ts";
import { type ComposeMap, type ComposeValue, readCompose } from "./read-compose.ts";

const compose = readCompose(readFileSync(new URL("../../compose.yaml", import.meta.url), "utf8"));
const services = map(compose.services);
const names = Object.keys(services);

function map(value: ComposeValue | undefined): ComposeMap {
  if (value === undefined || typeof value === "string" || Array.isArray(value)) throw new Error("not a map");
  return value;
}

function list(value: ComposeValue | undefined): string[] {
  const items = value ?? [];
  if (!Array.isArray(items)) throw new Error("not a list");
  return items.map(text);
}

function text(value: ComposeValue | undefined): string {
  if (typeof value !== "string") throw new Error("not a text");
  return value;
}

/** An environment with the variables of the caller replaced by their defaults, as where none is set. */
function environment(service: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(map(map(services[service]).environment)).map(([name, value]) => [
      name,
      text(value).replace(/\$\{\w+:-([^}]*)\}/g, "$1"),
    ]),
  );
}

/** What the Dockerfile's last stage sets. */
function imageEnvironment(): Record<string, string> {
  const dockerfile = readFileSync(new URL("../../Dockerfile", import.meta.url), "utf8");
  const instructions = parseDockerfile(dockerfile).at(-1)?.instructions ?? [];
  return Object.assign({}, ...instructions.map((one) => (one.kind === "ENV" ? one.variables : {})));
}

function seconds(duration: ComposeValue | undefined): number {
  const [, count, unit] = /^(\d+)(s|m)$/.exec(text(duration)) ?? [];
  return Number(count) * (unit === "m" ? 60 : 1);
}

/** In MB; of sizes such as 512MB, 512mb and 1gb. */
function megabytes(size: string | undefined): number {
  const [, count, unit] = /^(\d+)(mb|gb)$/i.exec(size ?? "") ?? [];
  return Number(count) * (unit?.toLowerCase() === "gb" ? 1_024 : 1);
}

describe("compose.yaml", () => {
  test("has PostgreSQL, Ollama and the service", () => {
    expect(names).toEqual(["postgres", "ollama", "memory-service"]);
  });

  test.each(names)("publishes ports of %s on loopback only", (name) => {
    expect(map(services[name]).network_mode).toBeUndefined();
    for (const port of list(map(services[name]).ports)) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
  });

  test("publishes the port that the service listens on", () => {
    const port = SETTINGS.MEMORY_PORT.default;
    expect(list(map(services["memory-service"]).ports)).toEqual([`127.0.0.1:${port}:${port}`]);
  });

  test("declares exactly the volumes that are used, and mounts nothing of the host", () => {
    const used = names
      .flatMap((name) => list(map(services[name]).volumes))
      .map((volume) => volume.split(":")[0]);
    expect(used.sort()).toEqual(Object.keys(map(compose.volumes)).sort());
  });

  test("keeps the database where the image of PostgreSQL 18 has its volume", () => {
    expect(text(map(services.postgres).image)).toMatch(/-pg18$/);
    expect(list(map(services.postgres).volumes)).toEqual(["postgres:/var/lib/postgresql"]);
  });

  test.each(names.filter((name) => map(services[name]).build === undefined))(
    "pins the image of %s to a whole version",
    (name) => {
      expect(text(map(services[name]).image)).toMatch(/^[a-z/]+:\d+\.\d+\.\d+(-pg\d+)?$/);
    },
  );

  test("has no older pgvector than the one that is recommended", () => {
    const version = /:([\d.]+)-/.exec(text(map(services.postgres).image))?.[1] ?? "";
    expect(version.localeCompare(RECOMMENDED_PGVECTOR, "en", { numeric: true })).toBeGreaterThanOrEqual(0);
  });

  test("lets the service wait for services that have a health check", () => {
    const awaited = Object.entries(map(map(services["memory-service"]).depends_on));
    expect(awaited).toEqual([["postgres", { condition: "service_healthy" }]]);
    for (const [name] of awaited) expect(map(map(services[name]).healthcheck).test).toBeDefined();
  });

  test.each(["postgres", "ollama"])("checks the health of %s", (name) => {
    const { test: command, interval, timeout, retries } = map(map(services[name]).healthcheck);
    expect(text(command)).not.toMatch(/curl|wget/);
    expect(seconds(interval)).toBeGreaterThan(0);
    expect(seconds(timeout)).toBeGreaterThan(0);
    expect(Number(text(retries)) * seconds(interval)).toBeGreaterThanOrEqual(60);
  });

  test("asks PostgreSQL over TCP, for the database and the user that it is given", () => {
    const { POSTGRES_DB, POSTGRES_USER } = environment("postgres");
    expect(map(map(services.postgres).healthcheck).test).toBe(
      `pg_isready --host 127.0.0.1 --username ${POSTGRES_USER} --dbname ${POSTGRES_DB}`,
    );
  });

  test("gives PostgreSQL enough shared memory for parallel index builds", () => {
    const { shm_size: size, command } = map(services.postgres);
    const needed = /maintenance_work_mem=(\w+)/.exec(text(command))?.[1];
    expect(megabytes(needed)).toBeGreaterThan(0);
    expect(megabytes(text(size))).toBeGreaterThanOrEqual(megabytes(needed));
  });

  test("gives the service only settings that it knows", () => {
    expect(Object.keys(SETTINGS)).toEqual(expect.arrayContaining(Object.keys(environment("memory-service"))));
  });

  test("gives the service a configuration that it accepts, with the database of the other service", () => {
    const { settings, postgres } = readConfig({ ...imageEnvironment(), ...environment("memory-service") });
    expect(settings.MEMORY_HOST).toBe("0.0.0.0");
    const { POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD } = environment("postgres");
    expect(postgres).toEqual({
      host: "postgres",
      port: 5432,
      database: POSTGRES_DB,
      user: POSTGRES_USER,
      password: POSTGRES_PASSWORD,
    });
    expect(settings.OLLAMA_API_URL).toBe("http://ollama:11434");
    expect(settings.MEMORY_ALLOW_UNAUTHENTICATED).toBe(true);
    expect(seconds(map(services["memory-service"]).stop_grace_period) * 1_000).toBeGreaterThan(
      settings.MEMORY_SHUTDOWN_GRACE_MS,
    );
  });
});

describe("the reader of compose files", () => {
  test("reads maps, lists and values", () => {
    expect(readCompose('a:\n  # why\n  b: "true"\n  c:\n    - x:y\nd:\n')).toEqual({
      a: { b: "true", c: ["x:y"] },
      d: {},
    });
  });

  test.each([
    "a: [1]",
    "a: {b: 1}",
    "a: &x 1",
    "a: |",
    "a: 'x'",
    "a: true",
    "a: b: c",
    "a: b # c",
    "a:\n  - b: c",
    "a: 1\na: 2",
    "a: 1\n  b: 2",
    "- a",
  ])("refuses %j", (file) => {
    expect(() => readCompose(file)).toThrow(/not understood|not a map/);
  });
});
