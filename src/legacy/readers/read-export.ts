import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { StartupError } from "../../memory/model/errors.ts";
import { parsePythonJson } from "./python-json.ts";
import { readJsonMembers } from "./read-json-members.ts";

/** The lists of an export, and what the table of each has. */
const TABLES = {
  memories: ["id", "content", "tags", "metadata", "created_at", "updated_at", "expires_at"],
  memory_versions: ["version_id", "memory_id", "content", "tags", "metadata", "created_at"],
  checkpoints: ["id", "name", "tags", "created_at"],
} as const satisfies Readonly<Record<string, readonly string[]>>;

type Table = keyof typeof TABLES;

const EXPORT_VERSION = "1";
/** What an export says of itself. */
const HEAD: ReadonlySet<string> = new Set(["version", "exported_at", "source_backend"]);
/** Where the rest goes, so that it comes into the quarantine: what is under other keys, and entries that have more. */
const OTHERS = "export_others";

/**
 * Reads an export of the fork (`export_memories`, version 1, of either of its engines) into a database of the schema
 * that its own directories have. Objects and lists become the JSON that Python would write.
 *
 * @throws StartupError if it is none, or damaged.
 */
export async function readExport(path: string, copy: string, signal: AbortSignal): Promise<void> {
  const database = new DatabaseSync(copy);
  try {
    for (const [table, columns] of Object.entries(TABLES)) {
      // Without types, so that nothing is converted.
      database.exec(`create table ${table} (${columns.join(", ")})`);
    }
    database.exec(`create table ${OTHERS} (place, json)`);
    database.exec("begin");
    const keep = database.prepare(`insert into ${OTHERS} values (?, ?)`);
    let version: string | undefined;
    let known = 0;
    let others = 0;
    for await (const member of readJsonMembers(path, signal)) {
      if (member.kind === "end" && member.problem !== undefined) {
        throw new StartupError(
          `${path} ${member.problem}: it is no complete export of the old system, export again`,
        );
      }
      if (member.kind === "value" && member.key === "version") version = member.json;
      if (member.kind === "end" || (member.kind === "value" && HEAD.has(member.key))) continue;
      if (!isTable(member.key)) {
        keep.run(member.key, member.json);
        others++;
        continue;
      }
      if (member.kind === "value" || member.name !== undefined) {
        throw new StartupError(
          `${path} has ${member.key} that are no list: it is no export of the old system`,
        );
      }
      known++;
      if (!insert(database, member.key, member.json, path)) keep.run(member.key, member.json);
    }
    if (version !== EXPORT_VERSION) {
      const found = version === undefined ? "tells no version" : `is of version ${version}`;
      throw new StartupError(
        `${path} ${found}: only exports of version ${EXPORT_VERSION} of the fork are known`,
      );
    }
    if (known === 0 && others > 0) {
      throw new StartupError(`${path} has no memories: it is no export of the old system`);
    }
    database.exec("commit");
  } finally {
    database.close();
  }
}

function isTable(key: string): key is Table {
  return Object.hasOwn(TABLES, key);
}

/** Returns whether that is all there is to the entry. */
function insert(database: DatabaseSync, table: Table, json: string, path: string): boolean {
  let members: ReadonlyMap<string, string>;
  try {
    ({ members } = parsePythonJson(json, Number.POSITIVE_INFINITY));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new StartupError(
      `${path} has an entry of ${table} that cannot be read (${error.message}): export again`,
    );
  }
  const columns: readonly string[] = TABLES[table];
  if (!json.startsWith("{")) {
    throw new StartupError(`${path} has an entry of ${table} that is no object: export again`);
  }
  const values = columns.map((column) => inputFrom(members.get(column) ?? "null"));
  const places = values.map((value) => (value instanceof Uint8Array ? "cast(? as text)" : "?"));
  database.prepare(`insert into ${table} values (${places.join(", ")})`).run(...values);
  return [...members.keys()].every((key) => columns.includes(key));
}

/** Text as bytes, since halves of surrogate pairs have no UTF-8. */
function inputFrom(json: string): SQLInputValue {
  if (json === "null") return null;
  if (json.startsWith('"')) return generalizedUtf8(String(JSON.parse(json)));
  if (/^-?\d+$/.test(json))
    return BigInt.asIntN(64, BigInt(json)) === BigInt(json) ? BigInt(json) : Buffer.from(json);
  return /^[-\dNI]/.test(json) && Number.isFinite(Number(json)) ? Number(json) : Buffer.from(json);
}

/** UTF-8 that also has halves of surrogate pairs, each in three bytes. */
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
