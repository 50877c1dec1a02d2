import { administer, databaseUrl } from "../postgres/administer.ts";
import { createDataDirectory, type ServerData } from "../postgres/data-directory.ts";
import { isServerOnly, testDatabaseUrl } from "../postgres/postgres-server.ts";

/** One engine to run server processes on. */
export interface ServerEngine {
  readonly name: "embedded" | "postgres";
  /** With `empty` without tables, for what a first start does; PostgreSQL's databases are always so. */
  create(options?: { readonly empty?: boolean }): Promise<ServerData>;
}

/** The engines to run servers on: the embedded one always, PostgreSQL where TEST_DATABASE_URL names a server. */
export function serverEngines(): ServerEngine[] {
  return [...embeddedServers(), ...postgresServers().map(({ name, create }) => ({ name, create }))];
}

/** The embedded engine, but where only a server is to be tested: for `describe.each`, beside tests of PostgreSQL. */
export function embeddedServers() {
  return isServerOnly() ? [] : [{ name: "embedded", create: createDataDirectory } as const];
}

/** PostgreSQL where TEST_DATABASE_URL names a server, else nothing: for `describe.each`. */
export function postgresServers() {
  const url = testDatabaseUrl();
  if (url === undefined) return [];
  return [{ name: "postgres", url, create: () => createServerDatabase(url) } as const];
}

/** An empty database on a server. */
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
