import type { JsonObject, JsonValue, Memory } from "../model/memory.ts";

/**
 * Bytes of JSON values as a google.protobuf.Struct: not at all those of their JSON text, where a `0` takes one
 * byte and here eleven.
 */
export function structBytes(value: JsonObject): number {
  let bytes = 0;
  for (const [key, inner] of Object.entries(value)) {
    bytes += fieldBytes(textBytes(key) + fieldBytes(valueBytes(inner)));
  }
  return bytes;
}

/** What a memory takes beside its texts and metadata, at most: times, numbers, tags of fields. */
const MEMORY_BYTES = 256;

/** Bytes of a memory in an answer, or a little more. */
export function memoryBytes(memory: Memory, preview = ""): number {
  const { id, domain, content, source, tags, embedding } = memory;
  const texts = [id, domain, content, source, ...tags, embedding.failureReason, preview];
  return texts.reduce((sum, text) => sum + textBytes(text), MEMORY_BYTES + structBytes(memory.metadata));
}

/** Bytes of a text as a field of a message. */
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

/** With its tag and its length before it, for the field numbers up to 15. */
function fieldBytes(length: number): number {
  let bytes = 2 + length;
  for (let rest = length >>> 7; rest > 0; rest >>>= 7) bytes++;
  return bytes;
}

function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}
