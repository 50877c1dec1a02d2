import type { Queryable } from "../../storage/database/database.ts";
import { quoteIdentifier } from "../quote-identifier.ts";
import type { DomainSchema } from "./domain-schema.ts";
import type { Alter } from "./lock-timeout.ts";

/** Renames indexes that have the name of a required index but another definition. */
export async function renameConflictingIndexes(
  session: Queryable,
  name: string,
  schema: DomainSchema,
  alter: Alter,
): Promise<void> {
  for (const index of await readIndexes(session, name)) {
    const required = schema.indexes.find((one) => one.name === index.name);
    if (required === undefined || required.statement === index.statement) continue;
    await alter(
      `alter index ${quoteIdentifier(index.name)} rename to ${quoteIdentifier(`${CONFLICTING_INDEX_PREFIX}${index.oid}`)}`,
    );
  }
}

const CONFLICTING_INDEX_PREFIX = "adopt_old_index_";

interface TableIndex {
  readonly [column: string]: unknown;
  readonly oid: bigint;
  readonly name: string;
  readonly statement: string;
  readonly valid: boolean;
}

async function readIndexes(session: Queryable, name: string): Promise<TableIndex[]> {
  return await session.query<TableIndex>(
    {
      text: `select i.indexrelid::bigint as oid, c.relname::text as name, pg_get_indexdef(i.indexrelid) as statement,
          i.indisvalid as valid
        from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = to_regclass($1) and not i.indisprimary order by c.relname`,
    },
    [quoteIdentifier(name)],
  );
}

/** Builds an index. An invalid one, which an interrupted build left behind, is dropped first. */
export async function buildIndex(
  session: Queryable,
  { name, statement, comment }: DomainSchema["indexes"][number],
  { concurrently }: { readonly concurrently: boolean },
  alter: Alter,
): Promise<void> {
  const [existing] = await session.query<{ valid: boolean }>(
    { text: "select indisvalid as valid from pg_index where indexrelid = to_regclass($1)" },
    [quoteIdentifier(name)],
  );
  const how = concurrently ? "concurrently" : "";
  if (existing?.valid === false) await session.execute(`drop index ${how} ${quoteIdentifier(name)}`);
  if (existing?.valid !== true) {
    await session.execute(statement.replace(/^CREATE (UNIQUE )?INDEX/, `create $1index ${how}`));
  }
  if (comment !== undefined) {
    await alter(`comment on index ${quoteIdentifier(name)} is '${comment.replaceAll("'", "''")}'`);
  }
}

/** Drops the indexes that the old server created. Other indexes stay. */
export async function dropOldIndexes(
  session: Queryable,
  name: string,
  schema: DomainSchema,
  { concurrently }: { readonly concurrently: boolean },
): Promise<void> {
  const required = new Set(schema.indexes.map((index) => index.name));
  for (const index of await readIndexes(session, name)) {
    if (required.has(index.name)) continue;
    const definition = index.statement.slice(index.statement.indexOf(" USING ") + 1);
    const isOld =
      index.name.startsWith(CONFLICTING_INDEX_PREFIX) ||
      OLD_INDEXES.some((pattern) => pattern.test(definition));
    if (isOld)
      await session.execute(
        `drop index ${concurrently ? "concurrently" : ""} ${quoteIdentifier(index.name)}`,
      );
  }
}

const OLD_INDEXES = [
  /^USING gin \(metadata\)$/,
  /^USING btree \(updated_at DESC\)$/,
  /^USING gin \(to_tsvector\('english'::regconfig, content\)\)$/,
  /^USING ivfflat \(embedding /,
];
