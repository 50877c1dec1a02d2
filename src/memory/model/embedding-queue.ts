import type { ContentEmbedding } from "./draft.ts";
import type { Filter } from "./filter.ts";

/** A memory whose embedding is due. */
export interface PendingMemory {
  readonly id: string;
  readonly content: string;
  /** SHA-256 of the content. The queue accepts an embedding only while the content is the same. */
  readonly contentHash: Uint8Array;
  /** Number of attempts, including this one. */
  readonly attempts: number;
}

/** The next failed memories to retry. */
export interface RetryFailedStep {
  readonly filter: Filter | undefined;
  /** The last memory of the previous step; undefined for the first step. */
  readonly after: string | undefined;
  readonly limit: number;
}

export interface RetryStep {
  readonly retried: bigint;
  /** The last memory that matched; undefined if none did. */
  readonly last: string | undefined;
}

/** Port: the memories that wait for their embedding. All servers of a database share the queue. */
export interface EmbeddingQueue {
  /**
   * Leases up to `limit` memories whose embedding is due, for `leaseMs`. Returns fewer, but at least one, if they are
   * long.
   */
  leasePending(domain: string, version: number, limit: number, leaseMs: number): Promise<PendingMemory[]>;
  /**
   * Writes the embedding of a memory, unless its content has changed or another embedding of this version was written
   * in the meantime. Returns whether it was written.
   */
  completeEmbedding(
    domain: string,
    memory: Pick<PendingMemory, "id" | "contentHash">,
    embedding: ContentEmbedding,
  ): Promise<boolean>;
  /**
   * Releases leased memories or extends their lease: they become due after `delayMs`.
   *
   * @param countAttempt Whether the attempt that the lease counted remains counted.
   */
  postponeEmbedding(
    domain: string,
    ids: readonly string[],
    delayMs: number,
    countAttempt: boolean,
  ): Promise<void>;
  /** Makes a memory due whose writer intended to embed it and could not. */
  releaseEmbedding(domain: string, id: string): Promise<void>;
  /** Marks the embedding as failed, unless the content has changed or was embedded in the meantime. */
  failEmbedding(
    domain: string,
    memory: Pick<PendingMemory, "id" | "contentHash">,
    reason: string,
  ): Promise<void>;
  /** Makes the next failed memories pending, ordered by id. */
  retryFailed(domain: string, step: RetryFailedStep, signal?: AbortSignal): Promise<RetryStep>;
}
