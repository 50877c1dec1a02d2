import type { PreservedFields } from "../model/draft.ts";
import type { Expiry, JsonValue, Memory, MemoryFields } from "../model/memory.ts";

/** The names of the fields, as in StoreRequest, in which a stored memory differs from what a caller sends. */
export function differingFields(stored: Memory, sent: MemoryFields): string[] {
  const differing: string[] = [];
  if (stored.content !== sent.content) differing.push("content");
  if (stored.source !== sent.source) differing.push("source");
  if (stored.importance !== sent.importance) differing.push("importance");
  if (!sameJson(stored.tags, sent.tags)) differing.push("tags");
  if (!sameJson(stored.metadata, sent.metadata)) differing.push("metadata");
  if (!sameExpiry(stored.expiry, sent.expiry)) differing.push("expiry");
  return differing;
}

/** The same for what an import brings along: times and version too, as far as it has them. */
export function differingFromImport(
  stored: Memory,
  sent: MemoryFields & { readonly preserved: PreservedFields },
): string[] {
  const { createTime, updateTime, version } = sent.preserved;
  // An export tells when a memory ends, not for how long it was meant to be.
  const expireTime = sent.expiry.kind === "at" ? sent.expiry.time : undefined;
  const differing = differingFields(stored, { ...sent, expiry: stored.expiry });
  if (stored.expireTime !== expireTime) differing.push("expire_time");
  if (createTime !== undefined && createTime !== stored.createTime) differing.push("create_time");
  if (updateTime !== undefined && updateTime !== stored.updateTime) differing.push("update_time");
  if (version !== undefined && version !== stored.version) differing.push("version");
  return differing;
}

function sameExpiry(a: Expiry, b: Expiry): boolean {
  if (a.kind === "at") return b.kind === "at" && a.time === b.time;
  if (a.kind === "after") return b.kind === "after" && a.ttl === b.ttl;
  return b.kind === "never";
}

/** Equality of JSON values: the order of keys does not count, and -0 is 0 (as JSON text makes it). */
function sameJson(a: JsonValue, b: JsonValue): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    return (
      Array.isArray(a) &&
      Array.isArray(b) &&
      a.length === b.length &&
      a.every((value, index) => sameJson(value, b[index]))
    );
  }
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && sameJson(Reflect.get(a, key), Reflect.get(b, key)))
  );
}
