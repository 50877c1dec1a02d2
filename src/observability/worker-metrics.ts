import { Counter, type Registry } from "prom-client";
import type { Repository } from "../memory/model/repository.ts";

/**
 * Registers the metrics of the embedding worker.
 *
 * @returns a wrapper of the repository that counts completed and failed embeddings.
 */
export function countBackgroundEmbeddings(registry: Registry, repository: Repository): Repository {
  const processed = new Counter({
    name: "memory_service_background_embeddings_total",
    help: "Number of memories that the embedding worker has embedded or marked as failed.",
    labelNames: ["outcome"] as const,
    registers: [registry],
  });
  for (const outcome of ["embedded", "failed"]) processed.inc({ outcome }, 0);
  return {
    ...repository,
    async completeEmbedding(domain, memory, embedding) {
      const written = await repository.completeEmbedding(domain, memory, embedding);
      if (written) processed.inc({ outcome: "embedded" });
      return written;
    },
    async failEmbedding(domain, memory, reason) {
      await repository.failEmbedding(domain, memory, reason);
      processed.inc({ outcome: "failed" });
    },
  };
}
