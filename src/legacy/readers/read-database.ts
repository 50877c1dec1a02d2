import { DatabaseSync } from "node:sqlite";
import { StartupError } from "../../memory/model/errors.ts";
import type { StoredValue } from "./stored-value.ts";

/** A row of the old database: its values by column. */
export type LegacyRow = Readonly<Record<string, StoredValue>>;

export interface LegacyDatabase {
  /** Of the table `memories`, in the order of the table. */
  readonly columns: readonly string[];
  /** Other tables that hold something: those of the fork, and any more. */
  readonly otherTables: readonly string[];
  count(table: string): number;
  /** Whether other rows of `memories` have the id of this one, too: nothing keeps a table without a key from that. */
  isRepeated(row: LegacyRow): boolean;
  /** In the order of storing. */
  rows(table: string): Generator<LegacyRow, void, undefined>;
  close(): void;
}

export const MEMORIES = "memories";
/** Of the fork. */
export const VERSIONS = "memory_versions";
export const CHECKPOINTS = "checkpoints";

/** What every version of the old system has. */
const COLUMNS = ["id", "content", "metadata", "created_at", "updated_at"] as const;

/**
 * Opens a copy of the old database, after which an interrupted write is rolled back or finished, and checks it.
 *
 * @param name the path of the original, for messages
 * @throws StartupError if it is damaged, encrypted, or of another schema.
 */
export function openLegacyDatabase(copy: string, name: string): LegacyDatabase {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(copy);
    const check = database.prepare("pragma quick_check(1)").get()?.quick_check;
    // After a line that names the schema.
    if (check !== "ok") throw new Error(String(check).split("\n").at(-1));
    return readerOf(database, name);
  } catch (error) {
    database?.close();
    if (error instanceof StartupError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new StartupError(
      `${name} is damaged (${reason}): restore it from a backup, or recover what is left with "sqlite3 ${name} .recover"`,
      { cause: error },
    );
  }
}

function readerOf(database: DatabaseSync, name: string): LegacyDatabase {
  const encoding = String(database.prepare("pragma encoding").get()?.encoding);
  if (encoding !== "UTF-8") {
    throw new StartupError(
      `${name} keeps its text as ${encoding}: the old system wrote UTF-8, this is not its file`,
    );
  }
  const tables = database
    .prepare(
      // What virtual tables show is in other tables, and the module that shows it may not be there.
      `select name from sqlite_schema where type = 'table' and name not like 'sqlite\\_%' escape '\\'
        and (rootpage > 0 or name = ?)`,
    )
    .all(MEMORIES)
    .map((row) => String(row.name));
  const columnsOf = (table: string) =>
    database
      .prepare("select name from pragma_table_info(?)")
      .all(table)
      .map((row) => String(row.name));
  const columns = tables.includes(MEMORIES) ? columnsOf(MEMORIES) : [];
  const lacking = COLUMNS.filter((column) => !columns.includes(column));
  if (lacking.length > 0) {
    const lacks = columns.length === 0 ? `no table ${MEMORIES}` : `no column ${lacking.join(", ")}`;
    throw new StartupError(`${name} has ${lacks}: it is not a database of the old system`);
  }

  const count = (table: string) =>
    Number(database.prepare(`select count(*) as rows from ${quoteIdentifier(table)}`).get()?.rows);

  const hasRowId = (table: string) =>
    database.prepare("select wr from pragma_table_list where schema = 'main' and name = ?").get(table)?.wr ===
    0;
  const repeatedIds = database.prepare(
    `select typeof(id) as type, ${rawValue("id")} as value from ${MEMORIES} where id is not null
    group by 1, 2 having count(*) > 1`,
  );
  repeatedIds.setReadBigInts(true);
  const repeated = new Set(
    repeatedIds.all().map(({ type, value }) => keyOfValue(storedValue(String(type), value))),
  );

  return {
    columns,
    otherTables: tables.filter((table) => table !== MEMORIES && count(table) > 0),
    count,
    isRepeated: ({ id = null }) => repeated.size > 0 && repeated.has(keyOfValue(id)),
    *rows(table) {
      const names = columnsOf(table);
      const values = names.map(
        (column, n) =>
          `typeof(${quoteIdentifier(column)}) as t${n}, ${rawValue(quoteIdentifier(column))} as v${n}`,
      );
      const order = hasRowId(table) ? " order by rowid" : "";
      const statement = database.prepare(
        `select ${values.join(", ")} from ${quoteIdentifier(table)}${order}`,
      );
      statement.setReadBigInts(true);
      for (const row of statement.iterate()) {
        yield Object.fromEntries(
          names.map((column, n) => [column, storedValue(String(row[`t${n}`]), row[`v${n}`])]),
        );
      }
    },
    close: () => database.close(),
  };
}

function storedValue(type: string, value: unknown): StoredValue {
  if (type === "null" || value === null || value === undefined) return null;
  if (value instanceof Uint8Array) return { type: type === "blob" ? "blob" : "text", bytes: value };
  if (typeof value === "bigint" || typeof value === "number") return value;
  throw new TypeError(`an unexpected ${typeof value} of SQLite`);
}

/** Text as bytes: it may have a NUL, or be no UTF-8. */
function rawValue(column: string): string {
  return `case when typeof(${column}) in ('text', 'blob') then cast(${column} as blob) else ${column} end`;
}

function keyOfValue(value: StoredValue): string {
  if (value === null) return "null";
  if (typeof value === "bigint") return `integer ${value}`;
  if (typeof value === "number") return `real ${value}`;
  return `${value.type} ${Buffer.from(value.bytes).toString("latin1")}`;
}

function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
