import type { SettingValues } from "../../app/config.ts";
import type { Database } from "../../storage/database/database.ts";
import { isRemote } from "../client/addresses.ts";
import { type Check, ok, problem, warning } from "./check.ts";

interface ServerFacts extends Readonly<Record<string, unknown>> {
  readonly read_only: boolean;
  readonly can_create: boolean | null;
  readonly encoding: string;
  readonly unsafe: string | null;
  readonly max_connections: number;
  readonly encrypted: boolean | null;
  readonly has_bm25_index: boolean;
  readonly textsearch_available: boolean;
}

/** The usual port of PgBouncer. */
const PGBOUNCER_PORT = 6432;

/** Checks what can be wrong with a PostgreSQL server but not with the embedded engine. */
export async function checkPostgres(
  database: Database,
  place: { readonly host: string; readonly port: number },
  settings: SettingValues,
): Promise<Check[]> {
  const [facts] = await database.query<ServerFacts>({
    text: `select
      current_setting('transaction_read_only') = 'on' as read_only,
      has_schema_privilege(current_schema(), 'create') as can_create,
      current_setting('server_encoding') as encoding,
      (select string_agg(name || ' = off', ', ' order by name) from pg_settings
        where name in ('fsync', 'full_page_writes', 'synchronous_commit') and setting = 'off') as unsafe,
      current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer as max_connections,
      (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as encrypted,
      to_regprocedure('to_bm25query(text, text)') is not null as has_bm25_index,
      exists (select from pg_available_extensions where name = 'pg_textsearch') as textsearch_available`,
  });
  if (facts === undefined) return [];
  const checks: Check[] = [];
  if (facts.read_only) {
    const remedy = "connect to the primary, or set default_transaction_read_only = off";
    checks.push(
      problem(
        "postgresql",
        "the database is read-only: it is a replica, or default_transaction_read_only is on",
        remedy,
      ),
    );
  } else if (!facts.can_create) {
    checks.push(
      problem(
        "privileges",
        "the user cannot create tables, which migrations and new domains require",
        'run "grant create on schema public to <user>" as the owner of the database',
      ),
    );
  }
  if (facts.encoding !== "UTF8") {
    const detail = `the database has the encoding ${facts.encoding}; it rejects texts with other characters`;
    checks.push(problem("encoding", detail, "create the database with encoding 'UTF8'"));
  }
  if (facts.unsafe !== null) {
    const detail = `the server has ${facts.unsafe}; a crash can lose memories that were acknowledged`;
    checks.push(warning("durability", detail, "turn it on in postgresql.conf"));
  }
  if (settings.MEMORY_POOL_SIZE + 1 > facts.max_connections) {
    checks.push(
      warning(
        "connections",
        `MEMORY_POOL_SIZE=${settings.MEMORY_POOL_SIZE} and one more connection exceed the ${facts.max_connections} connections of the server`,
        "lower MEMORY_POOL_SIZE, or raise max_connections",
      ),
    );
  }
  if (facts.encrypted === false && isRemote(place.host)) {
    const detail = `the connection to ${place.host} is not encrypted`;
    checks.push(warning("network", detail, "append ?sslmode=verify-full to DATABASE_URL"));
  }
  checks.push(checkTextSearch(facts));
  if (settings.MEMORY_PREPARED_STATEMENTS) checks.push(checkPooler(place.port));
  return checks;
}

function checkTextSearch({ has_bm25_index, textsearch_available }: ServerFacts): Check {
  if (has_bm25_index) return ok("text search", "full-text search uses the BM25 index of pg_textsearch");
  const detail = "full-text search computes BM25 in SQL";
  return textsearch_available
    ? warning(
        "text search",
        `${detail}, although the server has pg_textsearch, whose index is faster`,
        'add pg_textsearch to shared_preload_libraries, restart the server, run "create extension pg_textsearch" and "memory-service migrate"',
      )
    : ok("text search", `${detail}; the extension pg_textsearch would be faster`);
}

/** Checks for a connection pooler, which only its usual port reveals. */
function checkPooler(port: number): Check {
  if (port !== PGBOUNCER_PORT) {
    return ok(
      "pooler",
      "prepared statements are on; doctor cannot detect a pooler that does not support them",
    );
  }
  return warning(
    "pooler",
    `port ${port} is the port of PgBouncer, which may not support prepared statements in transaction mode`,
    "set max_prepared_statements to 200 or more in PgBouncer, or MEMORY_PREPARED_STATEMENTS=false",
  );
}
