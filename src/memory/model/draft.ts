import { ServiceError } from "./errors.ts";
import type { Memory, MemoryFields, Microseconds } from "./memory.ts";

/** The range of a chunk in its content, in code points; `end` is exclusive. */
export interface ChunkRange {
  readonly start: number;
  readonly end: number;
}

export interface EmbeddedChunk extends ChunkRange {
  /** Float32Array of unit length. */
  readonly vector: Float32Array;
}

/** The chunks of one content with their embeddings, in order; at least one. */
export interface ContentEmbedding {
  readonly version: number;
  readonly chunks: readonly EmbeddedChunk[];
}

/** Fields that the store sets itself, except for imported memories. Undefined fields get their usual value. */
export interface PreservedFields {
  readonly createTime: Microseconds | undefined;
  readonly updateTime: Microseconds | undefined;
  readonly version: bigint | undefined;
}

/** A memory to write. */
export interface MemoryDraft extends MemoryFields {
  readonly id: string;
  /** Number of chunks; for a pending memory, an estimate. */
  readonly chunkCount: number;
  /**
   * The embeddings; "keep" for those of the row that the draft replaces (same content); undefined for a pending memory,
   * which no worker takes before `leaseMs` have passed.
   */
  readonly embedding: ContentEmbedding | "keep" | undefined;
  /** Keeps the expiry of the row that the draft replaces. Writing the same `ttl` again would restart it. */
  readonly keepExpiry?: boolean;
  /** Fields that an imported memory brings along. */
  readonly preserved?: PreservedFields;
  /** How long the writer of a pending memory intends to embed it itself, in milliseconds. */
  readonly leaseMs: number;
}

export type StoreOutcome = "created" | "replaced" | "unchanged" | "kept" | "duplicate";

export interface StoreResult {
  /** The stored memory; for a duplicate, the memory that already has the content. */
  readonly memory: Memory;
  readonly outcome: StoreOutcome;
}

/** What to do when the id of a draft is taken: write the draft over the existing memory, or leave that as it is. */
export interface ConflictResolution {
  readonly outcome: StoreOutcome;
  /** Undefined if nothing is written. */
  readonly draft: MemoryDraft | undefined;
}

/** One of several memories to store together. */
export interface StoreEntry {
  readonly domain: string;
  readonly draft: MemoryDraft;
  /** Decides what happens if the id is taken. A ServiceError that it throws becomes the result of this entry. */
  readonly resolveConflict: (current: Memory) => ConflictResolution;
}

/** A domain that keeps each content once already has this content under another id. Nothing was written. */
export class DuplicateContentError extends ServiceError {
  /** The memory that has the content. */
  readonly memory: Memory;

  constructor(memory: Memory) {
    const { domain, id } = memory;
    super(
      "MEMORY_ALREADY_EXISTS",
      `domain "${domain}" keeps each content once and has this content as memory "${id}"`,
      { metadata: { domain, id, fields: "content" } },
    );
    this.memory = memory;
  }
}
