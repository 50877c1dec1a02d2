export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export type JsonObject = { readonly [key: string]: JsonValue };

/** A point in time, in microseconds since 1970-01-01T00:00:00Z. */
export type Microseconds = bigint;

/** When a memory ends, as the caller sent it. `after` counts from the moment it is stored. */
export type Expiry =
  | { readonly kind: "never" }
  | { readonly kind: "at"; readonly time: Microseconds }
  | { readonly kind: "after"; readonly ttl: Microseconds };

/** Keys of the stored metadata object that belong to fields of their own; callers' metadata may not use them. */
export const RESERVED_METADATA_KEYS = ["source", "importance", "tags"] as const;

/** What a caller says of a memory. */
export interface MemoryFields {
  readonly content: string;
  /** Where it came from; "" for none. */
  readonly source: string;
  /** 0 to 1 in requests; imported memories may lie outside. */
  readonly importance: number | undefined;
  readonly tags: readonly string[];
  /** The caller's own keys, without the reserved ones. */
  readonly metadata: JsonObject;
  readonly expiry: Expiry;
}

export interface EmbeddingStatus {
  readonly state: "pending" | "ready" | "failed";
  /** Why it failed; "" otherwise. */
  readonly failureReason: string;
  /** The embedding version of its vectors; undefined while there are none. */
  readonly version: number | undefined;
}

/** A stored memory. */
export interface Memory extends MemoryFields {
  readonly id: string;
  readonly domain: string;
  readonly createTime: Microseconds;
  readonly updateTime: Microseconds;
  readonly expireTime: Microseconds | undefined;
  /** 1 when created, one more with every change. */
  readonly version: bigint;
  readonly chunkCount: number;
  readonly embedding: EmbeddingStatus;
}
