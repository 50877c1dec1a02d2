import type { JsonObject, JsonValue, Memory } from "../model/memory.ts";

/**
 * Returns the size of an object as a google.protobuf.Struct. That differs a lot from its JSON text: `0` takes one byte
 * there and eleven here.
 */
export function structBytes(value: JsonObject): number {
  let bytes = 0;
  for (const [key, inner] of Object.entries(value)) {
    bytes += fieldBytes(textBytes(key) + fieldBytes(valueBytes(inner)));
  }
  return bytes;
}

/** Maximum size of a memory besides its texts and metadata: times, numbers and field tags. */
const MEMORY_OVERHEAD_BYTES = 256;

/** Returns the size of a memory in a response, or slightly more. */
export function memoryBytes(memory: Memory, preview = ""): number {
  const { id, domain, content, source, tags, embedding } = memory;
  const texts = [id, domain, content, source, ...tags, embedding.failureReason, preview];
  return texts.reduce(
    (sum, text) => sum + textBytes(text),
    MEMORY_OVERHEAD_BYTES + structBytes(memory.metadata),
  );
}

/** Returns the size of a text as a field of a message. */
export function textBytes(text: string): number {
  return fieldBytes(Buffer.byteLength(text));
}

function valueBytes(value: JsonValue): number {
  if (value === null || typeof value === "boolean") return 2;
  if (typeof value === "number") return 9;
  if (typeof value === "string") return textBytes(value);
  if (isList(value))
    return fieldBytes(value.reduce<number>((sum, item) => sum + fieldBytes(valueBytes(item)), 0));
  return fieldBytes(structBytes(value));
}

/** Adds the tag and the length of a field. The tag takes one byte for field numbers up to 15. */
function fieldBytes(length: number): number {
  let bytes = 2 + length;
  for (let rest = length >>> 7; rest > 0; rest >>>= 7) bytes++;
  return bytes;
}

function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}
