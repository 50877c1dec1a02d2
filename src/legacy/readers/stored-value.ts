import type { JsonValue } from "../../memory/model/memory.ts";

/** A value as SQLite stores it: REAL as number, INTEGER as bigint, TEXT as bytes, which may be invalid UTF-8. */
export type StoredValue =
  | null
  | number
  | bigint
  | { readonly type: "text" | "blob"; readonly bytes: Uint8Array };

/** A value decodeUtf8 as text, as far as that is possible. */
export interface DecodedText {
  readonly text: string;
  /** False if U+FFFD replaces NUL or invalid UTF-8 in `text`, or if the value was not a text. */
  readonly exact: boolean;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });

/** Creates the stored value of a text. */
export function textValue(text: string): StoredValue {
  return { type: "text", bytes: Buffer.from(text) };
}

/** Decodes a value as text that PostgreSQL can store. A number becomes its digits; null becomes an empty text. */
export function decodeText(value: StoredValue): DecodedText {
  if (value === null) return { text: "", exact: false };
  if (typeof value !== "object") return { text: String(value), exact: false };
  const text = decodeUtf8(value.bytes);
  if (text !== undefined && !text.includes("\0")) return { text, exact: value.type === "text" };
  return { text: (text ?? lenient.decode(value.bytes)).replaceAll("\0", "\ufffd"), exact: false };
}

/** Whether the bytes of a text or blob are not valid UTF-8. */
export function isInvalidUtf8(value: StoredValue): boolean {
  return value !== null && typeof value === "object" && decodeUtf8(value.bytes) === undefined;
}

/** Whether two values are identical in type and bytes. */
export function isSameValue(a: StoredValue, b: StoredValue): boolean {
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return Object.is(a, b);
  return a.type === b.type && Buffer.compare(a.bytes, b.bytes) === 0;
}

/**
 * Converts a value to JSON from which `valueFromJson` restores it bit for bit. A number stands for a REAL and a string
 * for a TEXT; any other value becomes an object that names its type.
 */
export function valueToJson(value: StoredValue): JsonValue {
  if (value === null) return null;
  if (typeof value === "bigint") return { integer: String(value) };
  if (typeof value === "number") {
    return Number.isFinite(value) && !Object.is(value, -0)
      ? value
      : { real: Object.is(value, -0) ? "-0" : String(value) };
  }
  const text = value.type === "text" ? decodeUtf8(value.bytes) : undefined;
  return text !== undefined && !text.includes("\0")
    ? text
    : { [`${value.type}_base64`]: Buffer.from(value.bytes).toString("base64") };
}

/** Restores a value. @throws TypeError if `valueToJson` did not produce the JSON. */
export function valueFromJson(json: JsonValue): StoredValue {
  if (json === null || typeof json === "number") return json;
  if (typeof json === "string") return textValue(json);
  if (typeof json === "object" && !Array.isArray(json)) {
    for (const [kind, value] of Object.entries(json)) {
      if (typeof value !== "string") break;
      if (kind === "integer") return BigInt(value);
      if (kind === "real") return Number(value);
      if (kind === "text_base64") return { type: "text", bytes: Buffer.from(value, "base64") };
      if (kind === "blob_base64") return { type: "blob", bytes: Buffer.from(value, "base64") };
    }
  }
  throw new TypeError(`not a stored value: ${JSON.stringify(json)}`);
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}
