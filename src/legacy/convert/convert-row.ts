import { createHash } from "node:crypto";
import { MEMORY_ID } from "../../memory/model/limits.ts";
import type { JsonObject, JsonValue, Microseconds } from "../../memory/model/memory.ts";
import { type JsonChange, parsePythonJson, pythonJson } from "../readers/python-json.ts";
import type { LegacyRow } from "../readers/read-database.ts";
import {
  decodeText,
  isInvalidUtf8,
  type StoredValue,
  textValue,
  valueToJson,
} from "../readers/stored-value.ts";
import { columnsToKeep, LEGACY_KEY, type LegacyRecord, METADATA_LEVELS, rowFrom } from "./legacy-record.ts";

/** The fields of a memory that say what an old row says. */
export interface ConvertedFields {
  readonly id: string;
  readonly content: string;
  readonly source: string;
  readonly importance: number | undefined;
  readonly tags: readonly string[];
  /** Without the record of the import. */
  readonly metadata: JsonObject;
  /** Undefined: the row does not say, or says what is no time. */
  readonly createTime: Microseconds | undefined;
  readonly updateTime: Microseconds | undefined;
  readonly expireTime: Microseconds | undefined;
}

/** An old row as a memory. */
export interface ConvertedRow extends ConvertedFields {
  /** What the record keeps besides run and version. */
  readonly record: Pick<LegacyRecord, "sha256" | "fork" | "columns">;
  /** What had to become something else, for people: `content has a NUL, kept as U+FFFD`. */
  readonly changes: readonly string[];
}

/** Keys of the old metadata that repeat columns. */
const TIME_KEYS = ["created_at", "updated_at"] as const;

const DESCRIPTIONS: Readonly<Record<JsonChange, string>> = {
  "not-a-number": "metadata has NaN or an infinite number, kept as text",
  "big-integer": "metadata has a number that a double does not hold, kept as text",
  nul: "metadata has a NUL, kept as U+FFFD",
  "half-surrogate": "metadata has half of a surrogate pair, kept as U+FFFD",
  "duplicate-key": "metadata has the same key twice, the last value is kept",
  "too-deep": `metadata has more than ${METADATA_LEVELS} levels, deeper ones are kept as text`,
};

/**
 * Makes a memory of an old row. The record makes it reversible: see `originalRow`.
 *
 * @param repeated whether other rows have its id, too
 */
export function convertRow(row: LegacyRow, repeated = false): ConvertedRow {
  const changes: string[] = [];
  const id = decodeText(row.id ?? null);
  const validId = id.exact && MEMORY_ID.test(id.text) && !repeated;
  if (repeated) changes.push("several memories have this id, each gets one that is made of all of it");
  else if (!validId) changes.push("id is none that the service takes, another one is made of it");
  const content = decodeText(row.content ?? null);
  if (!content.exact) changes.push("content has what PostgreSQL does not hold, kept as U+FFFD");
  const { metadata, source, importance, tags } = readMetadata(row, changes);
  const createTime = timeOf(row.created_at) ?? timeOfId(id.text) ?? timeOf(row.updated_at);
  const fields: ConvertedFields = {
    id: validId ? id.text : generatedId(row, repeated),
    content: content.text,
    source,
    importance,
    tags,
    metadata,
    createTime,
    updateTime: timeOf(row.updated_at) ?? createTime,
    expireTime: timeOf(row.expires_at),
  };
  for (const column of ["created_at", "updated_at"] as const) {
    if (timeOf(row[column]) === undefined) changes.push(`${column} is no time of the years 1 to 9999`);
  }
  if ((row.expires_at ?? null) !== null && fields.expireTime === undefined) {
    changes.push("expires_at is no time of the years 1 to 9999: the memory does not end");
  }
  const fork = Object.hasOwn(row, "tags") && Object.hasOwn(row, "expires_at");
  return {
    ...fields,
    record: { sha256: hashRow(row), fork, columns: columnsToKeep(row, rowFromFields(fields, fork, row)) },
    changes,
  };
}

/** The old row of an imported memory, bit for bit, if nobody has changed the memory since. */
export function originalRow(
  fields: Omit<ConvertedFields, "createTime" | "updateTime" | "expireTime">,
  { fork, columns }: Pick<LegacyRecord, "fork" | "columns">,
): LegacyRow {
  return rowFrom(columns, rowFromFields(fields, fork, rowFrom(columns, {})));
}

/** When the memory of a row ends; undefined: never. */
export function expireTimeOf(row: LegacyRow): Microseconds | undefined {
  return timeOf(row.expires_at);
}

/** The same memory under another id. */
export function withId(converted: ConvertedRow, row: LegacyRow, id: string): ConvertedRow {
  if (id === converted.id) return converted;
  const { record } = converted;
  return {
    ...converted,
    id,
    record: { ...record, columns: { ...record.columns, id: valueToJson(row.id ?? null) } },
  };
}

/** Names a row by all that is in it. */
export function hashRow(row: LegacyRow): string {
  const hash = createHash("sha256");
  for (const column of Object.keys(row).sort()) {
    const value = row[column] ?? null;
    const bytes =
      value !== null && typeof value === "object"
        ? value.bytes
        : Buffer.from(Object.is(value, -0) ? "-0" : String(value));
    const type = value !== null && typeof value === "object" ? value.type : typeof value;
    hash.update(`${JSON.stringify(column)} ${type} ${bytes.length}\n`).update(bytes);
  }
  return hash.digest("hex");
}

/** Another id for a row whose own is taken in the target: always the same one. */
export function renamedId(row: LegacyRow): string {
  const { text } = decodeText(row.id ?? null);
  const suffix = createHash("sha256").update(`${text} ${row.created_at}`).digest("hex").slice(0, 8);
  const stem = MEMORY_ID.test(text) ? text.slice(0, 41) : "legacy";
  return `${stem}-${suffix}`;
}

/** Where an id is null, or not the only one, nothing but the rest of the row tells it from others. */
function generatedId(row: LegacyRow, repeated: boolean): string {
  const { id = null } = row;
  const name = id === null || repeated ? hashRow(row) : createHash("sha256").update(keyOf(id)).digest("hex");
  return `legacy-${name.slice(0, 32)}`;
}

function keyOf(value: StoredValue): Uint8Array {
  if (value === null || typeof value !== "object") return Buffer.from(String(value));
  // A blob and a text of the same bytes are two ids.
  return value.type === "text" ? value.bytes : Buffer.concat([Buffer.from("blob "), value.bytes]);
}

/** What the row would be if the fields were all there is to know. */
function rowFromFields(
  {
    id,
    content,
    source,
    importance,
    tags,
    metadata,
  }: Omit<ConvertedFields, "createTime" | "updateTime" | "expireTime">,
  fork: boolean,
  { created_at, updated_at }: LegacyRow,
): Record<string, StoredValue> {
  const all: Record<string, JsonValue> = {
    ...(tags.length > 0 && !fork ? { tags } : {}),
    ...(source === "" ? {} : { source }),
    ...(importance === undefined ? {} : { importance }),
    ...sorted(metadata),
    ...(typeof created_at === "number" && !Object.hasOwn(metadata, "created_at") ? { created_at } : {}),
    ...(typeof updated_at === "number" && !Object.hasOwn(metadata, "updated_at") ? { updated_at } : {}),
  };
  return {
    id: textValue(id),
    content: textValue(content),
    metadata: textValue(pythonJson(all)),
    ...(fork ? { tags: textValue(pythonJson(tags)), expires_at: null } : {}),
  };
}

/** PostgreSQL keeps the keys of an object in an order of its own. */
function sorted(value: JsonObject): JsonObject {
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sortedValue(inner)]));
}

function sortedValue(value: JsonValue): JsonValue {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(sortedValue);
  return sorted(value as JsonObject);
}

function readMetadata(row: LegacyRow, changes: string[]) {
  const own = parsed(row.metadata ?? null, "metadata", changes);
  const forkTags = Object.hasOwn(row, "tags") ? parsed(row.tags ?? null, "tags", changes) : undefined;
  const rest: Record<string, JsonValue> = {};
  let source = "";
  let importance: number | undefined;
  let tags: readonly string[] = [];
  if (own !== undefined && !isObject(own)) changes.push("metadata is no object, kept in the record only");
  for (const [key, value] of isObject(own) ? Object.entries(own) : []) {
    if (key === "source") {
      source = typeof value === "string" ? value : JSON.stringify(value);
      if (typeof value !== "string") changes.push("source is no text, kept as its JSON");
    } else if (key === "importance") {
      if (typeof value === "number") importance = value;
      else changes.push("importance is no number, kept in the record only");
    } else if (key === "tags") {
      tags = stringsOf(value, changes);
    } else if (key === LEGACY_KEY) {
      changes.push(`metadata has the key ${LEGACY_KEY}, kept in the record only`);
    } else if (!(isTimeKey(key) && Object.is(value, row[key]))) {
      Object.defineProperty(rest, key, { value, enumerable: true, writable: true, configurable: true });
    }
  }
  if (forkTags !== undefined) {
    const labels = stringsOf(forkTags, changes);
    tags = [...labels, ...tags.filter((tag) => !labels.includes(tag))];
  }
  return { metadata: rest, source, importance, tags };
}

function parsed(value: StoredValue, column: string, changes: string[]): JsonValue | undefined {
  const { text } = decodeText(value);
  if (isInvalidUtf8(value)) changes.push(`${column} has bytes that are no UTF-8, kept as U+FFFD`);
  try {
    const read = parsePythonJson(text, METADATA_LEVELS);
    for (const change of read.changes) changes.push(DESCRIPTIONS[change]);
    return read.value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    changes.push(`${column} is no JSON, kept in the record only`);
    return undefined;
  }
}

function stringsOf(value: JsonValue, changes: string[]): string[] {
  const list = Array.isArray(value) ? value : [value];
  const strings = list.filter((tag) => typeof tag === "string");
  if (strings.length < list.length || !Array.isArray(value)) {
    changes.push("tags are no list of texts, what is no text is kept in the record only");
  }
  return strings;
}

function isTimeKey(key: string): key is (typeof TIME_KEYS)[number] {
  return key === "created_at" || key === "updated_at";
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Seconds from 1970 of the first and after the last moment that a time may have. */
const FIRST_SECOND = -62_135_596_800;
const END_SECOND = 253_402_300_800;

/** Rounded to the microsecond; of text, which the fork's exports from PostgreSQL have, as it is written. */
function timeOf(value: StoredValue | undefined): Microseconds | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "object") return timeOfText(decodeText(value).text);
  const seconds = Number(value);
  if (!(seconds >= FIRST_SECOND && seconds < END_SECOND)) return undefined;
  const whole = Math.floor(seconds);
  // The difference is exact, so that nothing is rounded twice.
  return BigInt(whole) * 1_000_000n + BigInt(Math.round((seconds - whole) * 1e6));
}

const TEXT_TIME = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d(?::?\d\d)?)?$/;

function timeOfText(text: string): Microseconds | undefined {
  const [, date, time, fraction = "", zone = "Z"] = TEXT_TIME.exec(text) ?? [];
  const offset = /^[+-]\d\d$/.test(zone) ? `${zone}:00` : zone;
  const milliseconds = Date.parse(`${date}T${time}${offset}`);
  if (!(milliseconds >= FIRST_SECOND * 1_000 && milliseconds < END_SECOND * 1_000)) return undefined;
  // A day that the month does not have is taken for one of the next month.
  const day = Date.parse(`${date}T00:00:00Z`);
  if (Number.isNaN(day) || !new Date(day).toISOString().startsWith(`${date}T`)) return undefined;
  return BigInt(milliseconds) * 1_000n + BigInt(fraction.padEnd(6, "0"));
}

/** Ids of the old system say when they were made, in milliseconds. */
function timeOfId(id: string): Microseconds | undefined {
  const milliseconds = /^mem_(\d{13})$/.exec(id)?.[1];
  return milliseconds === undefined ? undefined : BigInt(milliseconds) * 1_000n;
}
