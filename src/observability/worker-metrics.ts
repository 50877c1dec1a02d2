import { Counter, type Registry } from "prom-client";
import type { Repository } from "../memory/model/repository.ts";

/**
 * Registers the metrics of the embedding worker.
 *
 * @returns the repository for it: the same, but what is embedded or given up through it is counted.
 */
export function countBackgroundEmbeddings(registry: Registry, repository: Repository): Repository {
  const ended = new Counter({
    name: "memory_service_background_embeddings_total",
    help: "Memories that the embedding worker has embedded, or marked as failed.",
    labelNames: ["outcome"] as const,
    registers: [registry],
  });
  for (const outcome of ["embedded", "failed"]) ended.inc({ outcome }, 0);
  return {
    ...repository,
    async completeEmbedding(domain, memory, embedding) {
      const written = await repository.completeEmbedding(domain, memory, embedding);
      if (written) ended.inc({ outcome: "embedded" });
      return written;
    },
    async failEmbedding(domain, memory, reason) {
      await repository.failEmbedding(domain, memory, reason);
      ended.inc({ outcome: "failed" });
    },
  };
}
