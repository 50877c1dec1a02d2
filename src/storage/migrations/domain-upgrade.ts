import type { Logger } from "../../util/logger.ts";
import type { Queryable } from "../database/database.ts";
import { SQLSTATE, sqlstateOf } from "../database/errors.ts";

/**
 * Returns the names of the domains whose tables an older revision of `create_domain_memories_table` has created, in
 * order. Returns none while the migrations that create the catalogue are still pending.
 */
export async function findOutdatedDomains(database: Queryable): Promise<string[]> {
  try {
    const rows = await database.query<{ name: string }>({
      text: "select name from memory_domains where tables_revision < memory_tables_revision() order by name",
    });
    return rows.map((row) => row.name);
  } catch (error) {
    const sqlstate = sqlstateOf(error);
    if (sqlstate === SQLSTATE.undefinedTable || sqlstate === SQLSTATE.undefinedFunction) return [];
    throw error;
  }
}

/**
 * Upgrades the tables of the domain in their own transaction. Readers and writers of the domain wait until it ends, and
 * an interruption leaves the tables unchanged.
 */
export async function upgradeDomain(session: Queryable, name: string, logger: Logger): Promise<void> {
  const start = performance.now();
  // A single statement is a transaction. It does nothing if the domain has been dropped in the meantime.
  await session.query(
    { writes: true, text: "select create_domain_memories_table(name) from memory_domains where name = $1" },
    [name],
  );
  logger.info({ domain: name, ms: Math.round(performance.now() - start) }, "upgraded the tables of a domain");
}

/** Script for psql that upgrades every outdated domain as `upgradeDomain` does, in one transaction each. */
export const domainUpgradeScript = `-- Tables of domains
do $$
declare
  outdated text;
begin
  for outdated in
    select name from memory_domains where tables_revision < memory_tables_revision() order by name
  loop
    perform create_domain_memories_table(outdated);
    commit;
  end loop;
end
$$;
`;
