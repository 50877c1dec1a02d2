import type { EmbeddingStatus, Expiry, JsonObject, JsonValue, Memory } from "../../../memory/model/memory.ts";
import { RESERVED_METADATA_KEYS } from "../../../memory/model/memory.ts";
import type { Row } from "../../database/database.ts";

/** A memory without its content. */
export interface MemoryRow extends Row {
  readonly id: string;
  readonly metadata: JsonObject;
  readonly created_us: bigint;
  readonly updated_us: bigint;
  readonly expires_us: bigint | null;
  readonly ttl_us: bigint | null;
  readonly version: bigint;
  readonly chunk_count: number;
  readonly embedding_state: EmbeddingStatus["state"];
  readonly embedding_version: number | null;
  readonly embedding_error: string | null;
}

/** Returns the select list of a MemoryRow. */
export function memoryColumns(alias: string): string {
  return [
    "id",
    "metadata",
    "version",
    "chunk_count",
    "embedding_state",
    "embedding_version",
    "embedding_error",
  ]
    .map((column) => `${alias}.${column}`)
    .concat(
      `memory_microseconds(${alias}.created_at) as created_us`,
      `memory_microseconds(${alias}.updated_at) as updated_us`,
      `memory_microseconds(${alias}.expires_at) as expires_us`,
      `(extract(epoch from ${alias}.ttl) * 1000000)::bigint as ttl_us`,
    )
    .join(", ");
}

/** Converts a row. In rows that other programs have written, reserved keys may be missing or have other types. */
export function memoryFromRow(domain: string, row: MemoryRow, content: string): Memory {
  const { source, importance, tags, ...metadata } = row.metadata as {
    readonly source?: JsonValue;
    readonly importance?: JsonValue;
    readonly tags?: JsonValue;
  } & JsonObject;
  return {
    id: row.id,
    domain,
    content,
    source: typeof source === "string" ? source : "",
    importance: typeof importance === "number" ? importance : undefined,
    tags: Array.isArray(tags) ? tags.filter((tag) => typeof tag === "string") : [],
    metadata,
    expiry: expiryFromRow(row),
    createTime: row.created_us,
    updateTime: row.updated_us,
    expireTime: row.expires_us ?? undefined,
    version: row.version,
    chunkCount: row.chunk_count,
    embedding: {
      state: row.embedding_state,
      failureReason: row.embedding_error ?? "",
      version: row.embedding_version ?? undefined,
    },
  };
}

/** The metadata column of a memory: the caller's keys and, where they are set, the reserved ones. */
export function metadataToStore(
  fields: Pick<Memory, "source" | "importance" | "tags" | "metadata">,
): JsonObject {
  for (const key of RESERVED_METADATA_KEYS) {
    if (Object.hasOwn(fields.metadata, key)) throw new Error(`metadata holds the reserved key ${key}`);
  }
  return {
    ...fields.metadata,
    ...(fields.source === "" ? {} : { source: fields.source }),
    ...(fields.importance === undefined ? {} : { importance: fields.importance }),
    ...(fields.tags.length === 0 ? {} : { tags: fields.tags }),
  };
}

function expiryFromRow(row: MemoryRow): Expiry {
  if (row.ttl_us !== null) return { kind: "after", ttl: row.ttl_us };
  if (row.expires_us !== null) return { kind: "at", time: row.expires_us };
  return { kind: "never" };
}
