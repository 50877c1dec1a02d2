import type { PreservedFields } from "../model/draft.ts";
import type { Expiry, JsonValue, Memory, MemoryFields } from "../model/memory.ts";

/** The fields of an imported record that are compared with a stored memory. */
export interface ImportFields extends MemoryFields {
  readonly preserved: PreservedFields;
}

/**
 * Returns the names, as in StoreRequest, of the fields in which a stored memory differs from the fields of a request.
 */
export function differingFields(stored: Memory, sent: MemoryFields): string[] {
  const differing: string[] = [];
  if (stored.content !== sent.content) differing.push("content");
  if (stored.source !== sent.source) differing.push("source");
  if (stored.importance !== sent.importance) differing.push("importance");
  if (!isEqualJson(stored.tags, sent.tags)) differing.push("tags");
  if (!isEqualJson(stored.metadata, sent.metadata)) differing.push("metadata");
  if (!isEqualExpiry(stored.expiry, sent.expiry)) differing.push("expiry");
  return differing;
}

/** Returns the same for an imported record, and also compares the times and the version that it preserves. */
export function differingImportFields(stored: Memory, sent: ImportFields): string[] {
  const { createTime, updateTime, version } = sent.preserved;
  // An export contains the time at which a memory expires, not its ttl.
  const expireTime = sent.expiry.kind === "at" ? sent.expiry.time : undefined;
  const differing = differingFields(stored, { ...sent, expiry: stored.expiry });
  if (stored.expireTime !== expireTime) differing.push("expire_time");
  if (createTime !== undefined && createTime !== stored.createTime) differing.push("create_time");
  if (updateTime !== undefined && updateTime !== stored.updateTime) differing.push("update_time");
  if (version !== undefined && version !== stored.version) differing.push("version");
  return differing;
}

function isEqualExpiry(a: Expiry, b: Expiry): boolean {
  if (a.kind === "at") return b.kind === "at" && a.time === b.time;
  if (a.kind === "after") return b.kind === "after" && a.ttl === b.ttl;
  return b.kind === "never";
}

/** Compares JSON values. The order of keys does not matter, and -0 equals 0, as in JSON text. */
function isEqualJson(a: JsonValue, b: JsonValue): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    return (
      Array.isArray(a) &&
      Array.isArray(b) &&
      a.length === b.length &&
      a.every((value, index) => isEqualJson(value, b[index]))
    );
  }
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && isEqualJson(Reflect.get(a, key), Reflect.get(b, key)))
  );
}
