import { createHash } from "node:crypto";
import { MEMORY_ID } from "../../memory/model/limits.ts";
import type { LegacyRow } from "../readers/read-database.ts";
import { decodeText, type StoredValue } from "../readers/stored-value.ts";

/** Computes a hash of a row that covers the types and bytes of all its values. */
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

/** Returns the id for a row whose own id is taken in the target. It is the same for every import. */
export function renamedId(row: LegacyRow): string {
  const { text } = decodeText(row.id ?? null);
  const suffix = createHash("sha256").update(`${text} ${row.created_at}`).digest("hex").slice(0, 8);
  const stem = MEMORY_ID.test(text) ? text.slice(0, 41) : "legacy";
  return `${stem}-${suffix}`;
}

/** Returns the id for a row whose own id is not valid. A null or repeated id identifies the row by all its values. */
export function generatedId(row: LegacyRow, repeated: boolean): string {
  const { id = null } = row;
  const name = id === null || repeated ? hashRow(row) : createHash("sha256").update(keyOf(id)).digest("hex");
  return `legacy-${name.slice(0, 32)}`;
}

function keyOf(value: StoredValue): Uint8Array {
  if (value === null || typeof value !== "object") return Buffer.from(String(value));
  // A blob and a text with the same bytes are different ids.
  return value.type === "text" ? value.bytes : Buffer.concat([Buffer.from("blob "), value.bytes]);
}
