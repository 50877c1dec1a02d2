import type { EmbeddedChunk, MemoryDraft, StoreEntry, StoreResult } from "./draft.ts";
import type { ServiceError } from "./errors.ts";
import type { Filter } from "./filter.ts";
import type { Memory, Microseconds } from "./memory.ts";

export interface StoreManyOptions {
  /** Whether to throw the first error of an entry and store nothing. */
  readonly atomic: boolean;
  /**
   * Time for writing new embeddings, in milliseconds; the vector index takes 1 to 20 ms for each. The remaining
   * memories are stored as pending, and their writer completes them within `leaseMs`.
   */
  readonly embeddingsMs: number;
  readonly leaseMs: number;
}

/** The time by which memories are listed, and the direction. */
export interface ListOrder {
  readonly by: "create_time" | "update_time";
  readonly descending: boolean;
}

/** A page of memories, ordered by a time and the id. */
export interface ListQuery {
  readonly filter: Filter | undefined;
  readonly order: ListOrder;
  /** The last memory of the previous page; undefined for the first page. */
  readonly after: { readonly time: Microseconds; readonly id: string } | undefined;
  readonly limit: number;
  /** Whether to read contents, or only their beginnings. */
  readonly content: boolean;
  /** Maximum size of the page: memories beyond this many bytes of content and metadata are not read. */
  readonly maxBytes: number;
  /** Length of the beginning of a content, in code points. */
  readonly previewLength: number;
}

export interface ListedMemory {
  readonly memory: Memory;
  /** Beginning of the content if the content itself was not requested; "" otherwise. */
  readonly preview: string;
  /** Whether another memory follows within the limit, whether or not it is returned. */
  readonly more: boolean;
}

/** The result of deleting one memory. */
export type Deletion =
  | { readonly kind: "deleted" }
  | { readonly kind: "missing" }
  /** The memory still exists, at this version. */
  | { readonly kind: "other-version"; readonly version: bigint };

/** The next memories to delete of those that match. */
export interface MatchingStep {
  readonly filter: Filter;
  /** The last memory of the previous step; undefined for the first step. */
  readonly after: string | undefined;
  readonly limit: number;
}

export interface DeletionStep {
  readonly matched: bigint;
  /** Lower than `matched` if other calls deleted or changed memories in the meantime. */
  readonly deleted: bigint;
  /** The last memory that matched; undefined if none did. */
  readonly last: string | undefined;
}

/**
 * Port: the memories of all domains. Methods throw ServiceError DOMAIN_NOT_FOUND if the domain does not exist, and
 * treat expired memories as nonexistent.
 */
export interface MemoryStore {
  /** Returns the memory with its content; undefined if it does not exist. */
  read(domain: string, id: string, signal?: AbortSignal): Promise<Memory | undefined>;
  /** Lists memories in order, up to the limit. Returns fewer, but at least one, if they would exceed a message. */
  list(domain: string, query: ListQuery, signal?: AbortSignal): Promise<ListedMemory[]>;
  /**
   * Returns the chunks of the memories that have an embedding of this version, by id and in order. Memories that have
   * changed since the given version are missing. The first chunk starts with the content.
   */
  readEmbeddings(
    domain: string,
    memories: readonly Pick<Memory, "id" | "version">[],
    embeddingVersion: number,
    signal?: AbortSignal,
  ): Promise<Map<string, EmbeddedChunk[]>>;
  /** Writes a new memory. Returns undefined if its id is taken, or its content where that must be unique. */
  insert(domain: string, draft: MemoryDraft, signal?: AbortSignal): Promise<Memory | undefined>;
  /**
   * Locks the memory, passes it to `decide` (undefined if it does not exist) and writes the draft that `decide`
   * returns, if any. Replacing a memory keeps its create time and increments its version. Returns the stored memory.
   * Calls `decide` again after a conflict.
   *
   * @throws DuplicateContentError; ServiceError CONFLICT.
   */
  change(
    domain: string,
    id: string,
    decide: (current: Memory | undefined) => MemoryDraft | undefined,
    signal?: AbortSignal,
  ): Promise<Memory | undefined>;
  /**
   * Stores memories of any domains in one transaction. An id must occur only once in a domain. Returns a result for
   * each entry, in order; for an entry that was not stored, the error.
   *
   * @throws ServiceError DOMAIN_NOT_FOUND, CONFLICT: nothing was stored, and a retry may succeed.
   */
  storeMany(
    entries: readonly StoreEntry[],
    options: StoreManyOptions,
    signal?: AbortSignal,
  ): Promise<(StoreResult | ServiceError)[]>;
  /** Deletes the memory if it is at `expectedVersion`; undefined deletes any version. */
  delete(
    domain: string,
    id: string,
    expectedVersion: bigint | undefined,
    signal?: AbortSignal,
  ): Promise<Deletion>;
  /** Counts the memories that match. */
  countMatching(domain: string, filter: Filter, signal?: AbortSignal): Promise<bigint>;
  /** Deletes the next memories that match, ordered by id, all of them or none. */
  deleteMatching(domain: string, step: MatchingStep, signal?: AbortSignal): Promise<DeletionStep>;
  /** Deletes up to `limit` expired memories, except locked ones. Returns their number. */
  sweepExpired(domain: string, limit: number, signal?: AbortSignal): Promise<number>;
}
