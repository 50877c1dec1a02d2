export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export type JsonObject = { readonly [key: string]: JsonValue };

/** A point in time, in microseconds since 1970-01-01T00:00:00Z. */
export type Microseconds = bigint;

/** The expiry of a memory as the caller sent it. `after` counts from the moment of storing. */
export type Expiry =
  | { readonly kind: "never" }
  | { readonly kind: "at"; readonly time: Microseconds }
  | { readonly kind: "after"; readonly ttl: Microseconds };

/** Keys of the stored metadata object that hold other fields of a memory. Callers' metadata must not use them. */
export const RESERVED_METADATA_KEYS = ["source", "importance", "tags"] as const;

/** The fields of a memory that a caller sets. */
export interface MemoryFields {
  readonly content: string;
  /** Where the memory came from; "" for none. */
  readonly source: string;
  /** 0 to 1 in requests. Imported memories may have other values. */
  readonly importance: number | undefined;
  readonly tags: readonly string[];
  /** The caller's keys, without the reserved ones. */
  readonly metadata: JsonObject;
  readonly expiry: Expiry;
}

export interface EmbeddingStatus {
  readonly state: "pending" | "ready" | "failed";
  /** Why the embedding failed; "" otherwise. */
  readonly failureReason: string;
  /** The embedding version; undefined while the memory has no embedding. */
  readonly version: number | undefined;
}

/** A stored memory. */
export interface Memory extends MemoryFields {
  readonly id: string;
  readonly domain: string;
  readonly createTime: Microseconds;
  readonly updateTime: Microseconds;
  readonly expireTime: Microseconds | undefined;
  /** 1 for a new memory, incremented by every change. */
  readonly version: bigint;
  readonly chunkCount: number;
  readonly embedding: EmbeddingStatus;
}
