import type { Queryable } from "../../storage/database/database.ts";
import { quoteIdentifier } from "../quote-identifier.ts";

/** A table of the old server in PostgreSQL, or one whose adoption was interrupted. */
export interface LegacyTable {
  /** Name of the table. */
  readonly table: string;
  /**
   * Name of the domain in the old server, or what is left of it if PostgreSQL truncated the table's name to 63 bytes.
   */
  readonly domain: string;
  /** Whether the name was truncated. */
  readonly truncated: boolean;
  /** Dimensions of the embeddings; undefined if the column does not declare them. */
  readonly dimensions: number | undefined;
  readonly counts: LegacyTableCounts;
}

export interface LegacyTableCounts {
  readonly memories: number;
  /** Memories that were stored while the embedder was unavailable. */
  readonly withoutEmbedding: number;
  /** Memories with a zero embedding, which the old server stored when its embedder failed. */
  readonly zeroEmbeddings: number;
  /** Memories whose id is not valid in requests: not 1 to 50 of A-Z, a-z, 0-9 and ._:- */
  readonly oddIds: number;
  /** Memories whose metadata will be changed: not an object, or source, importance or tags have another type. */
  readonly oddMetadata: number;
}

/** Columns of an old table. A new table has them, too, but there `created_at` is not null. */
const OLD_COLUMNS = [
  ["id", "varchar"],
  ["content", "text"],
  ["embedding", "vector"],
  ["metadata", "jsonb"],
  ["created_at", "timestamptz"],
  ["updated_at", "timestamptz"],
] as const;

/** Finds the tables of the old server that are not, or not completely, adopted. Counts their rows; changes nothing. */
export async function findLegacyTables(database: Queryable): Promise<LegacyTable[]> {
  const rows = await database.query<{
    name: string;
    dimensions: number;
    finished: boolean;
  }>(
    {
      text: `select c.relname::text as name,
          (select atttypmod from pg_attribute where attrelid = c.oid and attname = 'embedding') as dimensions,
          (select attnotnull from pg_attribute where attrelid = c.oid and attname = 'created_at') as finished
        from pg_class c
        where c.relkind = 'r' and pg_table_is_visible(c.oid)
          and (c.relname like '%\\_memories' or octet_length(c.relname::text) = 63)
          and (
            select count(*)
            from pg_attribute a
            join pg_type t on t.oid = a.atttypid
            join unnest($1::text[], $2::text[]) as old (column_name, type_name)
              on old.column_name = a.attname and old.type_name = t.typname
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          ) = $3
          and exists (
            select from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
            where i.indrelid = c.oid and i.indisprimary and i.indnatts = 1 and a.attname = 'id'
          )
        order by c.relname`,
    },
    [OLD_COLUMNS.map(([name]) => name), OLD_COLUMNS.map(([, type]) => type), OLD_COLUMNS.length],
  );
  const registered = await registeredDomains(database);
  const tables: LegacyTable[] = [];
  for (const { name: table, dimensions, finished } of rows) {
    const name = parseTableName(table);
    if (finished && registered.has(name.domain)) continue;
    tables.push({
      table,
      ...name,
      dimensions: dimensions > 0 ? dimensions : undefined,
      counts: await readCounts(database, table),
    });
  }
  return tables;
}

/** Returns the names of the existing domains; none if the database has not been migrated yet. */
export async function registeredDomains(database: Queryable): Promise<Set<string>> {
  const [catalogue] = await database.query<{ present: boolean }>({
    text: "select to_regclass('memory_domains') is not null as present",
  });
  if (catalogue?.present !== true) return new Set();
  const rows = await database.query<{ name: string }>({ text: "select name from memory_domains" });
  return new Set(rows.map(({ name }) => name));
}

/** Derives the old domain from the name of a table. After truncation to 63 bytes, `_memories` can be incomplete. */
function parseTableName(table: string): { domain: string; truncated: boolean } {
  const suffix = "_memories";
  if (table.endsWith(suffix)) return { domain: table.slice(0, -suffix.length), truncated: false };
  for (let length = suffix.length - 1; length > 0; length--) {
    if (table.endsWith(suffix.slice(0, length))) return { domain: table.slice(0, -length), truncated: true };
  }
  return { domain: table, truncated: true };
}

async function readCounts(database: Queryable, table: string): Promise<LegacyTableCounts> {
  const [row] = await database.query<{ [K in keyof LegacyTableCounts]: bigint }>({
    text: `select count(*) as "memories",
        count(*) filter (where embedding is null) as "withoutEmbedding",
        count(*) filter (where vector_norm(embedding) = 0) as "zeroEmbeddings",
        count(*) filter (where id !~ '^[A-Za-z0-9._:-]{1,50}$') as "oddIds",
        count(*) filter (where ${hasInvalidMetadata("m")}) as "oddMetadata"
      from ${quoteIdentifier(table)} m`,
  });
  if (row === undefined) throw new Error("the count returned no row");
  return {
    memories: Number(row.memories),
    withoutEmbedding: Number(row.withoutEmbedding),
    zeroEmbeddings: Number(row.zeroEmbeddings),
    oddIds: Number(row.oddIds),
    oddMetadata: Number(row.oddMetadata),
  };
}

/** SQL condition for metadata that the service would reject or not search. */
function hasInvalidMetadata(alias: string): string {
  return `(jsonb_typeof(${alias}.metadata) <> 'object'
    or coalesce(jsonb_typeof(${alias}.metadata -> 'source'), 'string') <> 'string'
    or coalesce(jsonb_typeof(${alias}.metadata -> 'importance'), 'number') <> 'number'
    or coalesce(jsonb_typeof(${alias}.metadata -> 'tags'), 'array') <> 'array'
    or coalesce(jsonb_path_exists(${alias}.metadata -> 'tags', '$[*] ? (@.type() != "string")'), false))`;
}

/**
 * SQL expression for metadata that the service accepts, without loss. A value that is not an object becomes
 * `{"old_metadata": ...}`. A source that is not a text, an importance that is not a number and tags that are not all
 * texts move to `old_source`, `old_importance` and `old_tags`.
 */
export function normalizedMetadata(alias: string): string {
  return `case
    when not ${hasInvalidMetadata(alias)} then ${alias}.metadata
    when jsonb_typeof(${alias}.metadata) <> 'object' then jsonb_build_object('old_metadata', ${alias}.metadata)
    else (
      select jsonb_object_agg(
        case when key = 'source' and jsonb_typeof(value) <> 'string'
          or key = 'importance' and jsonb_typeof(value) <> 'number'
          or key = 'tags' and (jsonb_typeof(value) <> 'array'
            or jsonb_path_exists(value, '$[*] ? (@.type() != "string")'))
          then 'old_' || key else key end, value)
      from jsonb_each(${alias}.metadata)
    ) end`;
}
