import type { Queryable } from "../../storage/database/database.ts";
import { quoteIdentifier } from "../quote-identifier.ts";
import type { PlannedTable } from "./adoption-plan.ts";
import { readDomainSchema } from "./domain-schema.ts";
import { type FilledRows, type FillOptions, fillColumns } from "./fill-columns.ts";
import { type Alter, executeWithLockTimeout } from "./lock-timeout.ts";
import { addChecks, renamePrimaryKey, setNotNull, validateChecks } from "./table-constraints.ts";
import { buildIndex, dropOldIndexes, renameConflictingIndexes } from "./table-indexes.ts";

export interface AdoptOptions extends Omit<FillOptions, "onRows"> {
  /** Whether to build indexes concurrently. The embedded engine does not support that. */
  readonly concurrently: boolean;
  /** Called before each step, and after each batch of rows. */
  readonly onStep?: (step: string, rows: number) => void;
}

/** The result of adopting a table. */
export interface AdoptedTable extends FilledRows {
  readonly domain: string;
}

/**
 * Turns a table of the old server into a domain, in place.
 *
 * Every step checks whether it is needed, so that an interrupted adoption can be repeated. No step holds a lock for
 * long: columns have constant defaults, rows are written in small batches, and constraints are validated and indexes
 * built while others read and write. The domain is registered, and thereby visible to servers, in the last step.
 *
 * @param session a session without a statement timeout.
 */
export async function adoptTable(
  session: Queryable,
  { old, domain }: PlannedTable,
  options: AdoptOptions,
): Promise<AdoptedTable> {
  const { signal, onStep } = options;
  const name = `${domain}_memories`;
  const table = quoteIdentifier(name);
  const begin = (step: string) => {
    signal.throwIfAborted();
    onStep?.(step, 0);
  };
  const alter: Alter = async (script) => await executeWithLockTimeout(session, script, signal);

  if (old.table !== name) {
    begin("rename");
    await alter(`alter table ${quoteIdentifier(old.table)} rename to ${table}`);
  }
  const schema = await readDomainSchema(session, domain, old.dimensions);

  begin("add columns");
  await alter(`alter table ${table}
    ${[
      ...schema.columns.map(
        (column) => `add column if not exists ${quoteIdentifier(column.name)} ${column.definition}`,
      ),
      ...schema.storage,
    ].join(",\n")}`);
  await renamePrimaryKey(session, name, alter);
  for (const trigger of schema.triggers) await alter(trigger);
  await addChecks(session, table, schema, alter);

  begin("fill columns");
  const filled = await fillColumns(session, table, {
    ...options,
    onRows: (rows) => onStep?.("fill columns", rows),
  });

  begin("validate constraints");
  await validateChecks(session, table);
  for (const column of ["created_at", "updated_at"]) await setNotNull(session, table, column, alter);

  await renameConflictingIndexes(session, name, schema, alter);
  for (const index of schema.indexes) {
    begin(`build ${index.name}`);
    await buildIndex(session, index, options, alter);
  }

  begin("drop old indexes");
  await dropOldIndexes(session, name, schema, options);
  await session.execute(`analyze ${table}`);
  begin("register");
  await register(session, domain, old.dimensions, options.keepAsVersion, signal);
  return { domain, ...filled };
}

/** Registers the domain at the newest table revision, so that creating its tables has nothing left to upgrade. */
async function register(
  session: Queryable,
  domain: string,
  dimensions: number | undefined,
  embeddingVersion: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const values = `'${domain}', ${dimensions ?? "null"}, ${embeddingVersion ?? "null"}, memory_tables_revision()`;
  await executeWithLockTimeout(
    session,
    `begin;
    select lock_memory_domain('${domain}');
    insert into memory_domains (name, dimensions, embedding_version, tables_revision) values (${values})
      on conflict (name) do nothing;
    select create_domain_memories_table('${domain}', ${dimensions ?? "null"});
    select comment_domain_tables('${domain}');
    commit`,
    signal,
  );
}
