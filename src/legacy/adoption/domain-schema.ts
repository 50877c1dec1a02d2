import { randomBytes } from "node:crypto";
import type { Queryable } from "../../storage/database/database.ts";

/** The schema of the tables of a domain, as statements that each add one part to an existing table. */
export interface DomainSchema {
  /** Columns of the memories table, in order. */
  readonly columns: readonly { readonly name: string; readonly definition: string }[];
  /** Clauses of `alter table` that set how embeddings are stored. */
  readonly storage: readonly string[];
  /** Check constraints, such as `CHECK ((chunk_count >= 1))`. */
  readonly checks: readonly string[];
  readonly triggers: readonly string[];
  readonly indexes: readonly {
    readonly name: string;
    /** The statement that creates the index. */
    readonly statement: string;
    readonly comment: string | undefined;
  }[];
}

/**
 * Reads the schema that a domain `name` would get. Creates the tables of a temporary domain and rolls back, because
 * only create_domain_memories_table defines the schema. A domain `name` may already exist.
 */
export async function readDomainSchema(
  session: Queryable,
  name: string,
  dimensions: number | undefined,
): Promise<DomainSchema> {
  // The maximum length of 40 characters, so that names of indexes are cut as they would be for any domain. The hyphen
  // forces PostgreSQL to quote every name.
  const template = `a-${randomBytes(19).toString("hex")}`.slice(0, 40);
  await session.execute("begin");
  try {
    await session.query({ writes: true, text: "select create_domain_memories_table($1, $2::integer)" }, [
      template,
      dimensions ?? null,
    ]);
    const table = `"${template}_memories"`;
    const query = async <R extends Readonly<Record<string, unknown>>>(text: string) =>
      await session.query<R>({ text }, [table]);
    const columns = await query<{ name: string; definition: string }>(`
      select a.attname::text as name, concat_ws(' ', format_type(a.atttypid, a.atttypmod),
        case when a.attnotnull then 'not null' end, 'default ' || pg_get_expr(d.adbin, d.adrelid)) as definition
      from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum`);
    const storage = await query<{ part: string }>(`
      select 'alter column embedding set storage plain' as part
      from pg_attribute where attrelid = to_regclass($1) and attname = 'embedding' and attstorage = 'p'
      union all
      select format('set (%s)', array_to_string(reloptions, ', '))
      from pg_class where oid = to_regclass($1) and reloptions is not null`);
    const checks = await query<{ definition: string }>(`
      select pg_get_constraintdef(oid) as definition from pg_constraint
      where conrelid = to_regclass($1) and contype = 'c' order by conname`);
    const triggers = await query<{ definition: string }>(`
      select pg_get_triggerdef(oid) as definition from pg_trigger
      where tgrelid = to_regclass($1) and not tgisinternal order by tgname`);
    const indexes = await query<{ name: string; statement: string; comment: string | null }>(`
      select c.relname::text as name, pg_get_indexdef(c.oid) as statement, obj_description(c.oid) as comment
      from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid = to_regclass($1) and not i.indisprimary order by c.relname`);
    const named = (text: string) => text.replaceAll(template, name);
    return {
      columns,
      storage: storage.map(({ part }) => part),
      checks: checks.map(({ definition }) => definition),
      triggers: triggers.map(({ definition }) =>
        named(definition).replace(/^CREATE TRIGGER/, "create or replace trigger"),
      ),
      indexes: indexes.map((index) => ({
        name: named(index.name),
        statement: named(index.statement),
        comment: index.comment ?? undefined,
      })),
    };
  } finally {
    await session.execute("rollback");
  }
}
