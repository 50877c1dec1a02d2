import { DatabaseSync } from "node:sqlite";
import { messageOf } from "../../util/error-message.ts";
import { StartupError } from "../../util/startup-error.ts";
import { quoteIdentifier } from "../quote-identifier.ts";
import type { StoredValue } from "./stored-value.ts";

/** A row of the old database, as values by column. */
export type LegacyRow = Readonly<Record<string, StoredValue>>;

export interface LegacyDatabase {
  /** Columns of the table `memories`, in the order of the table. */
  readonly columns: readonly string[];
  /** Other tables that are not empty, of the fork or unknown. */
  readonly otherTables: readonly string[];
  count(table: string): number;
  /** Whether other rows of `memories` have the same id, which is possible in a table without a primary key. */
  isRepeated(row: LegacyRow): boolean;
  /** Iterates over the rows, in the order in which they were stored. */
  rows(table: string): Generator<LegacyRow, void, undefined>;
  close(): void;
}

export const MEMORIES = "memories";
/** Tables that only the fork has. */
export const VERSIONS = "memory_versions";
export const CHECKPOINTS = "checkpoints";

/** Columns that every version of the old server has. */
const COLUMNS = ["id", "content", "metadata", "created_at", "updated_at"] as const;

/**
 * Opens a copy of the old database and checks it. Opening completes or rolls back an interrupted write.
 *
 * @param name the path of the original, for messages
 * @throws StartupError if the database is damaged, encrypted or has a different schema.
 */
export function openLegacyDatabase(copy: string, name: string): LegacyDatabase {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(copy);
    const check = database.prepare("pragma quick_check(1)").get()?.quick_check;
    // The reason follows a line that names the schema.
    if (check !== "ok") throw new Error(String(check).split("\n").at(-1));
    return readerOf(database, name);
  } catch (error) {
    database?.close();
    if (error instanceof StartupError) throw error;
    throw new StartupError(
      `${name} is damaged (${messageOf(error)}); restore it from a backup, or recover its data with "sqlite3 ${name} .recover"`,
      { cause: error },
    );
  }
}

function readerOf(database: DatabaseSync, name: string): LegacyDatabase {
  const encoding = String(database.prepare("pragma encoding").get()?.encoding);
  if (encoding !== "UTF-8") {
    throw new StartupError(
      `${name} stores text as ${encoding}, but the old server wrote UTF-8; it is not a database of the old server`,
    );
  }
  const tables = database
    .prepare(
      // Virtual tables are skipped: their module may be missing, and their data is in other tables.
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
    throw new StartupError(`${name} has ${lacks}; it is not a database of the old server`);
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
  throw new TypeError(`unexpected ${typeof value} from SQLite`);
}

/** Selects a text as bytes, because it may contain NUL or invalid UTF-8. */
function rawValue(column: string): string {
  return `case when typeof(${column}) in ('text', 'blob') then cast(${column} as blob) else ${column} end`;
}

function keyOfValue(value: StoredValue): string {
  if (value === null) return "null";
  if (typeof value === "bigint") return `integer ${value}`;
  if (typeof value === "number") return `real ${value}`;
  return `${value.type} ${Buffer.from(value.bytes).toString("latin1")}`;
}
