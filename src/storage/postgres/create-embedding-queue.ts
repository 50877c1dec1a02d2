import type { EmbeddingQueue } from "../../memory/model/embedding-queue.ts";
import type { Database } from "../database/database.ts";
import type { DomainCache } from "./domain-cache.ts";
import {
  leasePending,
  postponeEmbedding,
  writeEmbedding,
  writeFailure,
} from "./embeddings/pending-embeddings.ts";
import { retryFailed } from "./embeddings/retry-failed.ts";
import { replaceChunks } from "./memories/write-chunks.ts";

export function createEmbeddingQueue(
  database: Database,
  { translateDomainErrors }: DomainCache,
): EmbeddingQueue {
  return {
    async leasePending(domain, version, limit, leaseMs) {
      return await translateDomainErrors(domain, leasePending(database, domain, version, limit, leaseMs));
    },

    async completeEmbedding(domain, memory, embedding) {
      return await translateDomainErrors(
        domain,
        database.transaction(async (transaction) => {
          const written = await writeEmbedding(transaction, domain, memory, embedding);
          if (written) await replaceChunks(transaction, domain, memory.id, embedding);
          return written;
        }),
      );
    },

    async postponeEmbedding(domain, ids, delayMs, countAttempt) {
      await translateDomainErrors(domain, postponeEmbedding(database, domain, ids, delayMs, countAttempt));
    },

    async releaseEmbedding(domain, id) {
      await translateDomainErrors(domain, postponeEmbedding(database, domain, [id], 0, true));
    },

    async failEmbedding(domain, memory, reason) {
      await translateDomainErrors(
        domain,
        database.transaction(async (transaction) => {
          const written = await writeFailure(transaction, domain, memory, reason);
          // Chunks of another version go too, or a return to that version would find them.
          if (written) await replaceChunks(transaction, domain, memory.id, undefined);
        }),
      );
    },

    async retryFailed(domain, step, signal) {
      return await translateDomainErrors(domain, retryFailed(database, domain, step, { signal }));
    },
  };
}
