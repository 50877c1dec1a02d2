import type { Logger } from "../../util/logger.ts";
import { StaleDomainError } from "../model/domain.ts";
import { EmbedError } from "../model/embedder.ts";
import type { EmbeddingQueue, PendingMemory } from "../model/embedding-queue.ts";
import { isAbort } from "../model/errors.ts";
import type { ContentEmbedder } from "./content-embedder.ts";

/** Memories leased at once: two full batches of the scheduler. */
const LEASE_SIZE = 64;
/** A memory is marked as failed after this many attempts that failed because of it. */
const MAX_ATTEMPTS = 5;
/** Pause before the next attempt of a memory, multiplied by its attempts. */
const BACKOFF_MS = 5_000;
/** Pause before the next attempt after the embedder was unavailable. */
const RETRY_MS = 2_000;

/** A domain to embed pending memories of. */
export interface EmbeddingTurn {
  readonly embedder: ContentEmbedder;
  readonly domain: string;
  readonly version: number;
}

/**
 * Leases some pending memories of a domain and embeds them. Returns "model-changed" without embedding if the model no
 * longer has the version of the turn.
 */
export type EmbedPending = (turn: EmbeddingTurn) => Promise<"embedded" | "nothing-due" | "model-changed">;

export function createEmbedPending(dependencies: {
  readonly repository: EmbeddingQueue;
  readonly logger: Logger;
  readonly leaseMs: number;
  /** Aborts when the server stops. */
  readonly signal: AbortSignal;
}): EmbedPending {
  const { repository, logger, leaseMs, signal } = dependencies;

  /** Returns the ids of the memories that could not be embedded because the embedder was unavailable. */
  async function embedLeased(
    embedder: ContentEmbedder,
    domain: string,
    memories: readonly PendingMemory[],
  ): Promise<string[]> {
    const waiting = new Set(memories.map((memory) => memory.id));
    let extended: Promise<void> | undefined;
    const timer = setInterval(() => {
      extended = repository
        .postponeEmbedding(domain, [...waiting], leaseMs, true)
        .catch((error: unknown) => logger.debug({ err: error, domain }, "could not extend a lease"));
    }, leaseMs / 3);
    try {
      const left = await Promise.all(
        memories.map(async (memory) => {
          const done = await embedOne(embedder, domain, memory);
          waiting.delete(memory.id);
          return done ? [] : [memory.id];
        }),
      );
      return left.flat();
    } finally {
      clearInterval(timer);
      // The extension must not follow the release of the same memories.
      await extended;
    }
  }

  /** Returns false if the embedder was unavailable. The memory stays pending. */
  async function embedOne(
    embedder: ContentEmbedder,
    domain: string,
    memory: PendingMemory,
  ): Promise<boolean> {
    try {
      const embedding = await embedder.embedContent(memory.content, signal);
      const written = await repository.completeEmbedding(domain, memory, embedding);
      // The memory was changed in the meantime. Its new content must not wait for the end of the extended lease.
      if (!written) await repository.postponeEmbedding(domain, [memory.id], 0, false);
    } catch (error) {
      if (isAbort(error)) return false;
      // The domain was recreated or switched by another server. If the memory still exists, it becomes due again soon.
      if (error instanceof StaleDomainError) return false;
      if (!(error instanceof EmbedError)) throw error;
      if (error.kind === "unavailable" || error.kind === "model-missing") return false;
      // A memory that contains only white space can never be embedded.
      if (memory.attempts < MAX_ATTEMPTS && /\S/u.test(memory.content)) {
        await repository.postponeEmbedding(domain, [memory.id], BACKOFF_MS * memory.attempts, true);
      } else {
        await repository.failEmbedding(domain, memory, error.message);
        logger.warn(
          { domain, id: memory.id, reason: error.message },
          "memory cannot be embedded; marked as failed",
        );
      }
    }
    return true;
  }

  return async ({ embedder, domain, version }) => {
    signal.throwIfAborted();
    // The domain would refuse embeddings of another model, so it has to be switched first.
    if ((await embedder.current())?.version !== version) return "model-changed";
    const memories = await repository.leasePending(domain, version, LEASE_SIZE, leaseMs);
    if (memories.length === 0) return "nothing-due";
    const left = await embedLeased(embedder, domain, memories);
    if (left.length > 0) {
      // A server that stops releases them at once, for other servers.
      await repository.postponeEmbedding(domain, left, signal.aborted ? 0 : RETRY_MS, false);
    }
    logger.debug({ domain, memories: memories.length - left.length }, "embedded pending memories");
    return "embedded";
  };
}
