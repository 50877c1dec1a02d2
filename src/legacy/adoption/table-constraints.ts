import type { Queryable } from "../../storage/database/database.ts";
import { quoteIdentifier } from "../quote-identifier.ts";
import type { DomainSchema } from "./domain-schema.ts";
import type { Alter } from "./lock-timeout.ts";

/** Renames the primary key to the name that a new table would use. */
export async function renamePrimaryKey(session: Queryable, name: string, alter: Alter): Promise<void> {
  const [key] = await session.query<{ name: string }>(
    {
      text: `select conname::text as name from pg_constraint
        where conrelid = to_regclass($1) and contype = 'p'`,
    },
    [quoteIdentifier(name)],
  );
  const wanted = `${name}_pkey`;
  if (key === undefined || key.name === wanted) return;
  await alter(
    `alter table ${quoteIdentifier(name)} rename constraint ${quoteIdentifier(key.name)} to ${quoteIdentifier(wanted)}`,
  );
}

/** Adds the missing checks. They apply to new rows at once; `validateChecks` validates the others. */
export async function addChecks(
  session: Queryable,
  table: string,
  schema: DomainSchema,
  alter: Alter,
): Promise<void> {
  const existing = await session.query<{ definition: string }>(
    {
      text: `select pg_get_constraintdef(oid) as definition from pg_constraint
        where conrelid = to_regclass($1) and contype = 'c'`,
    },
    [table],
  );
  const known = new Set(existing.map(({ definition }) => definition.replace(/ NOT VALID$/, "")));
  const missing = schema.checks.filter((check) => !known.has(check));
  if (missing.length === 0) return;
  await alter(`alter table ${table} ${missing.map((check) => `add ${check} not valid`).join(", ")}`);
}

/** Validates the checks that `addChecks` added. */
export async function validateChecks(session: Queryable, table: string): Promise<void> {
  const rows = await session.query<{ name: string }>(
    {
      text: `select conname::text as name from pg_constraint
        where conrelid = to_regclass($1) and contype = 'c' and not convalidated`,
    },
    [table],
  );
  for (const { name } of rows) {
    await session.execute(`alter table ${table} validate constraint ${quoteIdentifier(name)}`);
  }
}

/**
 * Sets a column to not null. First adds and validates a check constraint, because `set not null` alone scans the table
 * under an exclusive lock.
 */
export async function setNotNull(
  session: Queryable,
  table: string,
  column: string,
  alter: Alter,
): Promise<void> {
  const [row] = await session.query<{ done: boolean }>(
    { text: "select attnotnull as done from pg_attribute where attrelid = to_regclass($1) and attname = $2" },
    [table, column],
  );
  if (row?.done === true) return;
  const constraint = quoteIdentifier(`adopted_${column}`);
  await alter(`alter table ${table} drop constraint if exists ${constraint}`);
  await alter(
    `alter table ${table} add constraint ${constraint} check (${quoteIdentifier(column)} is not null) not valid`,
  );
  // An interruption between two batches, or a concurrent write, may have left nulls.
  await session.execute(`update ${table} set created_at = coalesce(created_at, updated_at, now()),
    updated_at = coalesce(updated_at, created_at, now()) where ${quoteIdentifier(column)} is null`);
  await session.execute(`alter table ${table} validate constraint ${constraint}`);
  await alter(
    `alter table ${table} alter column ${quoteIdentifier(column)} set not null, drop constraint ${constraint}`,
  );
}
