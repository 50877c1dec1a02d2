import type { JsonValue } from "../../memory/model/memory.ts";

/** A value as SQLite holds it: reals as numbers, whole numbers as bigints; text as bytes, which may be no UTF-8. */
export type StoredValue =
  | null
  | number
  | bigint
  | { readonly type: "text" | "blob"; readonly bytes: Uint8Array };

/** A text as far as it can be kept as one. */
export interface DecodedText {
  readonly text: string;
  /** False: `text` has U+FFFD where there was a NUL, or bytes that are no UTF-8, or the value was no text. */
  readonly exact: boolean;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });

export function textValue(text: string): StoredValue {
  return { type: "text", bytes: Buffer.from(text) };
}

/** What of a value can be kept as text. Of numbers their digits, of null nothing. */
export function decodeText(value: StoredValue): DecodedText {
  if (value === null) return { text: "", exact: false };
  if (typeof value !== "object") return { text: String(value), exact: false };
  const text = decoded(value.bytes);
  if (text !== undefined && !text.includes("\0")) return { text, exact: value.type === "text" };
  return { text: (text ?? lenient.decode(value.bytes)).replaceAll("\0", "\ufffd"), exact: false };
}

/** Whether a text, or a blob that stands for one, lost something when it was read. */
export function isInvalidUtf8(value: StoredValue): boolean {
  return value !== null && typeof value === "object" && decoded(value.bytes) === undefined;
}

export function isSameValue(a: StoredValue, b: StoredValue): boolean {
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return Object.is(a, b);
  return a.type === b.type && Buffer.compare(a.bytes, b.bytes) === 0;
}

/**
 * A value as JSON from which `valueFromJson` makes it again, bit for bit: a number is a real, a string a text; what
 * neither holds is an object that says what it is.
 */
export function valueToJson(value: StoredValue): JsonValue {
  if (value === null) return null;
  if (typeof value === "bigint") return { integer: String(value) };
  if (typeof value === "number") {
    return Number.isFinite(value) && !Object.is(value, -0)
      ? value
      : { real: Object.is(value, -0) ? "-0" : String(value) };
  }
  const text = value.type === "text" ? decoded(value.bytes) : undefined;
  return text !== undefined && !text.includes("\0")
    ? text
    : { [`${value.type}_base64`]: Buffer.from(value.bytes).toString("base64") };
}

/** @throws TypeError if it is nothing that `valueToJson` has made. */
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
  throw new TypeError(`not a value of the old database: ${JSON.stringify(json)}`);
}

function decoded(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}
