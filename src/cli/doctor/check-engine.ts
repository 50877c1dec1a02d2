import type { Database } from "../../storage/database/database.ts";
import {
  checkServer,
  compareVersions,
  RECOMMENDED_PGVECTOR,
} from "../../storage/database/server/check-server.ts";
import { silentLogger } from "../../util/logger.ts";
import { type Check, ok, warning } from "./check.ts";
import { formatBytes } from "./check-disk.ts";

interface ExtensionRow extends Readonly<Record<string, unknown>> {
  readonly name: string;
  readonly installed: string | null;
  readonly available: string;
}

/**
 * Checks that an engine is reachable, and its versions and extensions.
 *
 * @throws StartupError if the engine is unreachable or too old.
 */
export async function checkEngine(database: Database, where: string): Promise<Check[]> {
  const { postgres } = await checkServer(database, { logger: silentLogger });
  const [size] = await database.query<{ bytes: number }>({
    text: "select pg_database_size(current_database())::float8 as bytes",
  });
  const extensions = await database.query<ExtensionRow>({
    text: `select name::text, installed_version as installed, default_version as available
      from pg_available_extensions where name in ('vector', 'pg_textsearch')`,
  });
  const extension = (name: string) => extensions.find((row) => row.name === name);
  return [
    ok("postgresql", `PostgreSQL ${postgres} ${where}, ${formatBytes(size?.bytes ?? 0)}`),
    checkPgvector(extension("vector")),
    ok("pg_textsearch", describeTextSearch(extension("pg_textsearch"))),
  ];
}

function checkPgvector(row: ExtensionRow | undefined): Check {
  const version = row?.installed ?? row?.available ?? "";
  const name = "pgvector";
  if (row?.installed && compareVersions(row.installed, row.available) < 0) {
    return warning(
      name,
      `pgvector ${row.installed} is installed, but the server provides ${row.available}`,
      'run "alter extension vector update" in the database',
    );
  }
  if (compareVersions(version, RECOMMENDED_PGVECTOR) < 0) {
    return warning(
      name,
      `pgvector ${version} has known bugs in vacuum and parallel index builds`,
      `install pgvector ${RECOMMENDED_PGVECTOR} or newer on the server, then run "alter extension vector update"`,
    );
  }
  return ok(name, `pgvector ${version}${row?.installed ? "" : "; the first migration installs it"}`);
}

function describeTextSearch(row: ExtensionRow | undefined): string {
  if (row === undefined) return "not available on this server; text search works without it";
  return `pg_textsearch ${row.installed ?? row.available}${row.installed ? "" : " is available"}`;
}
