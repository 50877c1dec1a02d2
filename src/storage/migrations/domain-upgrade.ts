import type { Logger } from "../../util/logger.ts";
import type { Queryable } from "../database/database.ts";
import { SQLSTATE, sqlstateOf } from "../database/errors.ts";

/**
 * The domains, by name, whose tables an older revision of `create_domain_memories_table` has made. None where the
 * catalogue is older than revisions: its migration is pending then.
 */
export async function outdatedDomains(database: Queryable): Promise<string[]> {
  try {
    const rows = await database.query<{ name: string }>({
      text: "select name from memory_domains where tables_revision < memory_tables_revision() order by name",
    });
    return rows.map((row) => row.name);
  } catch (error) {
    if (beforeRevisions.has(sqlstateOf(error) ?? "")) return [];
    throw error;
  }
}

const beforeRevisions: ReadonlySet<string> = new Set([
  SQLSTATE.undefinedTable,
  SQLSTATE.undefinedColumn,
  SQLSTATE.undefinedFunction,
]);

/**
 * Brings the tables of the domain up to date in a transaction of its own. Who reads or writes this domain waits for it
 * meanwhile; an interruption leaves it as it was.
 */
export async function upgradeDomain(session: Queryable, name: string, logger: Logger): Promise<void> {
  const start = performance.now();
  // A single statement is a transaction. Of a domain dropped meanwhile it makes nothing.
  await session.query(
    { text: "select create_domain_memories_table(name) from memory_domains where name = $1" },
    [name],
  );
  logger.info({ domain: name, ms: Math.round(performance.now() - start) }, "upgraded the tables of a domain");
}

/** For psql: what `upgradeDomain` does, for every domain that needs it, a transaction each. */
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
