import type { JsonObject, JsonValue } from "../../memory/model/memory.ts";
import { type JsonChange, parsePythonJson } from "../readers/python-json.ts";
import type { LegacyRow } from "../readers/read-database.ts";
import { decodeText, isInvalidUtf8, type StoredValue } from "../readers/stored-value.ts";
import { LEGACY_KEY, METADATA_LEVELS } from "./legacy-record.ts";

/** Keys of the old metadata that repeat columns. */
const TIME_KEYS = ["created_at", "updated_at"] as const;

const DESCRIPTIONS: Readonly<Record<JsonChange, string>> = {
  "not-a-number": "metadata contains NaN or an infinite number, which becomes a text",
  "big-integer": "metadata contains a number that a double cannot hold, which becomes a text",
  nul: "metadata contains NUL, which becomes U+FFFD",
  "half-surrogate": "metadata contains an unpaired surrogate, which becomes U+FFFD",
  "duplicate-key": "metadata contains the same key twice; the last value is kept",
  "too-deep": `metadata has more than ${METADATA_LEVELS} levels; deeper values become text`,
};

export interface ConvertedMetadata {
  /** The keys that have no field of their own. */
  readonly metadata: JsonObject;
  readonly source: string;
  readonly importance: number | undefined;
  readonly tags: readonly string[];
}

/** Reads the fields in the metadata of a row and in the fork's column `tags`. Adds each change to `changes`. */
export function convertMetadata(row: LegacyRow, changes: string[]): ConvertedMetadata {
  const own = parseColumn(row.metadata ?? null, "metadata", changes);
  const forkTags = Object.hasOwn(row, "tags") ? parseColumn(row.tags ?? null, "tags", changes) : undefined;
  const rest: Record<string, JsonValue> = {};
  let source = "";
  let importance: number | undefined;
  let tags: readonly string[] = [];
  if (own !== undefined && !isObject(own))
    changes.push("metadata is not an object; it is kept in the record only");
  for (const [key, value] of isObject(own) ? Object.entries(own) : []) {
    if (key === "source") {
      source = typeof value === "string" ? value : JSON.stringify(value);
      if (typeof value !== "string") changes.push("source is not a text; it becomes its JSON");
    } else if (key === "importance") {
      if (typeof value === "number") importance = value;
      else changes.push("importance is not a number; it is kept in the record only");
    } else if (key === "tags") {
      tags = stringsOf(value, changes);
    } else if (key === LEGACY_KEY) {
      changes.push(`metadata has the key ${LEGACY_KEY}; it is kept in the record only`);
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

function parseColumn(value: StoredValue, column: string, changes: string[]): JsonValue | undefined {
  const { text } = decodeText(value);
  if (isInvalidUtf8(value)) changes.push(`${column} contains invalid UTF-8, which becomes U+FFFD`);
  try {
    const read = parsePythonJson(text, METADATA_LEVELS);
    for (const change of read.changes) changes.push(DESCRIPTIONS[change]);
    return read.value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    changes.push(`${column} is not JSON; it is kept in the record only`);
    return undefined;
  }
}

function stringsOf(value: JsonValue, changes: string[]): string[] {
  const list = Array.isArray(value) ? value : [value];
  const strings = list.filter((tag) => typeof tag === "string");
  if (strings.length < list.length || !Array.isArray(value)) {
    changes.push("tags are not a list of texts; anything else is kept in the record only");
  }
  return strings;
}

function isTimeKey(key: string): key is (typeof TIME_KEYS)[number] {
  return key === "created_at" || key === "updated_at";
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
