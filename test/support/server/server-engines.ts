import { administer, databaseUrl } from "../postgres/administer.ts";
import { createDataDirectory, type ServerData } from "../postgres/data-directory.ts";
import { isServerOnly, testDatabaseUrl } from "../postgres/postgres-server.ts";

/** An engine to run server processes on. */
export interface ServerEngine {
  readonly name: "embedded" | "postgres";
  /** With `empty`, creates storage without tables to test a first start; PostgreSQL databases always start empty. */
  create(options?: { readonly empty?: boolean }): Promise<ServerData>;
}

/** Returns the engines to run servers on: the embedded one, and PostgreSQL if TEST_DATABASE_URL names a server. */
export function serverEngines(): ServerEngine[] {
  return [...embeddedServers(), ...postgresServers().map(({ name, create }) => ({ name, create }))];
}

/** Returns the embedded engine for `describe.each`, or nothing if only a PostgreSQL server is to be tested. */
export function embeddedServers() {
  return isServerOnly() ? [] : [{ name: "embedded", create: createDataDirectory } as const];
}

/** Returns PostgreSQL for `describe.each` if TEST_DATABASE_URL names a server, or nothing. */
export function postgresServers() {
  const url = testDatabaseUrl();
  if (url === undefined) return [];
  return [{ name: "postgres", url, create: () => createServerDatabase(url) } as const];
}

/** Creates an empty database on a server. */
export async function createServerDatabase(server: string): Promise<ServerData & { readonly url: string }> {
  const name = `memory_e2e_${crypto.randomUUID().replaceAll("-", "")}`;
  await administer(server, `create database ${name}`);
  const url = databaseUrl(server, name);
  return {
    url,
    env: { DATABASE_URL: url },
    [Symbol.asyncDispose]: () => administer(server, `drop database if exists ${name} with (force)`),
  };
}
