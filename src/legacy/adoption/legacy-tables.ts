import type { Queryable } from "../../storage/database/database.ts";

/** A table that the old memory server made in PostgreSQL, or one whose adoption was interrupted. */
export interface LegacyTable {
  /** As the catalogue has it. */
  readonly table: string;
  /** The domain as the old server called it; where PostgreSQL has cut the table's name at 63 bytes, what is left of it. */
  readonly domain: string;
  /** Whether the name was cut. */
  readonly cut: boolean;
  /** Of its embeddings; undefined if the column says none. */
  readonly dimensions: number | undefined;
  readonly figures: LegacyTableCounts;
}

export interface LegacyTableCounts {
  readonly memories: number;
  /** Stored while no embedder was there. */
  readonly withoutEmbedding: number;
  /** All zeros: what the old server stored when its embedder failed. */
  readonly zeroEmbeddings: number;
  /** Whose ids no request could name: not 1 to 50 of A-Z, a-z, 0-9 and ._:- */
  readonly oddIds: number;
  /** Whose metadata is changed: no object, or with another type in source, importance or tags. */
  readonly oddMetadata: number;
}

/** A name of the catalogue in a statement. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** The columns of the old version; ours has them too, and `created_at` must be set there. */
const OLD_COLUMNS = [
  ["id", "varchar"],
  ["content", "text"],
  ["embedding", "vector"],
  ["metadata", "jsonb"],
  ["created_at", "timestamptz"],
  ["updated_at", "timestamptz"],
] as const;

/**
 * Finds the tables of the old version that are not, or not wholly, tables of ours, and counts what is in them: reads each
 * once. Changes nothing.
 */
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
    const name = oldNameOf(table);
    if (finished && registered.has(name.domain)) continue;
    tables.push({
      table,
      ...name,
      dimensions: dimensions > 0 ? dimensions : undefined,
      figures: await readFigures(database, table),
    });
  }
  return tables;
}

/** The names of our domains; none where this is no database of ours yet. */
export async function registeredDomains(database: Queryable): Promise<Set<string>> {
  const [catalogue] = await database.query<{ there: boolean }>({
    text: "select to_regclass('memory_domains') is not null as there",
  });
  if (catalogue?.there !== true) return new Set();
  const rows = await database.query<{ name: string }>({ text: "select name from memory_domains" });
  return new Set(rows.map(({ name }) => name));
}

/** PostgreSQL cuts names at 63 bytes: then only a beginning of `_memories` is left, or nothing. */
function oldNameOf(table: string): { domain: string; cut: boolean } {
  const suffix = "_memories";
  if (table.endsWith(suffix)) return { domain: table.slice(0, -suffix.length), cut: false };
  for (let length = suffix.length - 1; length > 0; length--) {
    if (table.endsWith(suffix.slice(0, length))) return { domain: table.slice(0, -length), cut: true };
  }
  return { domain: table, cut: true };
}

async function readFigures(database: Queryable, table: string): Promise<LegacyTableCounts> {
  const [row] = await database.query<{ [K in keyof LegacyTableCounts]: bigint }>({
    text: `select count(*) as "memories",
        count(*) filter (where embedding is null) as "withoutEmbedding",
        count(*) filter (where vector_norm(embedding) = 0) as "zeroEmbeddings",
        count(*) filter (where id !~ '^[A-Za-z0-9._:-]{1,50}$') as "oddIds",
        count(*) filter (where ${hasInvalidMetadata("m")}) as "oddMetadata"
      from ${quoteIdentifier(table)} m`,
  });
  if (row === undefined) throw new Error("a count without a row");
  return {
    memories: Number(row.memories),
    withoutEmbedding: Number(row.withoutEmbedding),
    zeroEmbeddings: Number(row.zeroEmbeddings),
    oddIds: Number(row.oddIds),
    oddMetadata: Number(row.oddMetadata),
  };
}

/** Where our service would not find what the metadata say, or refuse to read them. */
function hasInvalidMetadata(alias: string): string {
  return `(jsonb_typeof(${alias}.metadata) <> 'object'
    or coalesce(jsonb_typeof(${alias}.metadata -> 'source'), 'string') <> 'string'
    or coalesce(jsonb_typeof(${alias}.metadata -> 'importance'), 'number') <> 'number'
    or coalesce(jsonb_typeof(${alias}.metadata -> 'tags'), 'array') <> 'array'
    or coalesce(jsonb_path_exists(${alias}.metadata -> 'tags', '$[*] ? (@.type() != "string")'), false))`;
}

/**
 * The metadata as our service can hold them, with nothing lost: what is no object becomes `{"old_metadata": ...}`, and
 * a source that is no text, an importance that is no number or tags that are not all texts move to `old_source`,
 * `old_importance`, `old_tags`.
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
