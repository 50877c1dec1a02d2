import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { StartupError } from "../../util/startup-error.ts";
import { parsePythonJson } from "./python-json.ts";
import { readJsonMembers } from "./read-json-members.ts";

/** The lists of an export, with the columns of the table for each. */
const TABLES = {
  memories: ["id", "content", "tags", "metadata", "created_at", "updated_at", "expires_at"],
  memory_versions: ["version_id", "memory_id", "content", "tags", "metadata", "created_at"],
  checkpoints: ["id", "name", "tags", "created_at"],
} as const satisfies Readonly<Record<string, readonly string[]>>;

type Table = keyof typeof TABLES;

const EXPORT_VERSION = "1";
/** Keys that describe the export itself. */
const HEADER_KEYS: ReadonlySet<string> = new Set(["version", "exported_at", "source_backend"]);
/** Table for values under other keys and for entries with further keys. Its rows go to the quarantine. */
const UNKNOWN_ENTRIES = "export_others";

/**
 * Reads an export of the fork (`export_memories`, version 1, from SQLite or PostgreSQL) into a new database with the
 * schema of the fork. Objects and lists become the JSON that Python would write. Returns the path of the database.
 *
 * @throws StartupError if the file is not an export, or damaged.
 */
export async function readExport(path: string, copy: string, signal: AbortSignal): Promise<string> {
  const database = new DatabaseSync(copy);
  try {
    for (const [table, columns] of Object.entries(TABLES)) {
      // Columns without types, so that SQLite converts nothing.
      database.exec(`create table ${table} (${columns.join(", ")})`);
    }
    database.exec(`create table ${UNKNOWN_ENTRIES} (place, json)`);
    database.exec("begin");
    const keep = database.prepare(`insert into ${UNKNOWN_ENTRIES} values (?, ?)`);
    let version: string | undefined;
    let known = 0;
    let others = 0;
    for await (const member of readJsonMembers(path, signal)) {
      if (member.kind === "end" && member.problem !== undefined) {
        throw new StartupError(
          `${path} ${member.problem}; it is not a complete export of the old server, export again`,
        );
      }
      if (member.kind === "value" && member.key === "version") version = member.json;
      if (member.kind === "end" || (member.kind === "value" && HEADER_KEYS.has(member.key))) continue;
      if (!isTable(member.key)) {
        keep.run(member.key, member.json);
        others++;
        continue;
      }
      if (member.kind === "value" || member.name !== undefined) {
        throw new StartupError(
          `${path} has ${member.key} that are not a list; it is not an export of the old server`,
        );
      }
      known++;
      if (!insert(database, member.key, member.json, path)) keep.run(member.key, member.json);
    }
    if (version !== EXPORT_VERSION) {
      const found = version === undefined ? "has no version" : `has version ${version}`;
      throw new StartupError(
        `${path} ${found}; only exports of the fork with version ${EXPORT_VERSION} are supported`,
      );
    }
    if (known === 0 && others > 0) {
      throw new StartupError(`${path} has no memories; it is not an export of the old server`);
    }
    database.exec("commit");
    return copy;
  } finally {
    database.close();
  }
}

function isTable(key: string): key is Table {
  return Object.hasOwn(TABLES, key);
}

/** Inserts an entry as a row. Returns false if the entry has further keys. */
function insert(database: DatabaseSync, table: Table, json: string, path: string): boolean {
  let members: ReadonlyMap<string, string>;
  try {
    ({ members } = parsePythonJson(json, Number.POSITIVE_INFINITY));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new StartupError(
      `${path} has an entry of ${table} that cannot be parsed (${error.message}); export again`,
    );
  }
  const columns: readonly string[] = TABLES[table];
  if (!json.startsWith("{")) {
    throw new StartupError(`${path} has an entry of ${table} that is not an object; export again`);
  }
  const values = columns.map((column) => inputFrom(members.get(column) ?? "null"));
  const placeholders = values.map((value) => (value instanceof Uint8Array ? "cast(? as text)" : "?"));
  database.prepare(`insert into ${table} values (${placeholders.join(", ")})`).run(...values);
  return [...members.keys()].every((key) => columns.includes(key));
}

/** Converts JSON to an SQLite value, with text as bytes, because UTF-8 cannot encode unpaired surrogates. */
function inputFrom(json: string): SQLInputValue {
  if (json === "null") return null;
  if (json.startsWith('"')) return generalizedUtf8(String(JSON.parse(json)));
  if (/^-?\d+$/.test(json))
    return BigInt.asIntN(64, BigInt(json)) === BigInt(json) ? BigInt(json) : Buffer.from(json);
  return /^[-\dNI]/.test(json) && Number.isFinite(Number(json)) ? Number(json) : Buffer.from(json);
}

/** Encodes text as UTF-8 in which an unpaired surrogate takes three bytes. */
function generalizedUtf8(text: string): Uint8Array {
  if (text.isWellFormed()) return Buffer.from(text);
  return Buffer.concat(
    Array.from(text, (character) => {
      const code = character.codePointAt(0) ?? 0;
      return code < 0xd800 || code > 0xdfff
        ? Buffer.from(character)
        : Buffer.from([0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f)]);
    }),
  );
}
