import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { CircuitState } from "../embedding/circuit-breaker.ts";
import type { OllamaEmbedder } from "../embedding/ollama/ollama-embedder.ts";
import { type Embedder, EmbedError } from "../memory/model/embedder.ts";

/** Buckets in seconds. A cached query takes microseconds, loading a model takes up to minutes. */
const embedBuckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

const circuitStates: readonly CircuitState[] = ["closed", "open", "half-open"];

/**
 * Registers the metrics of the embedder.
 *
 * @returns a wrapper of the embedder that counts its calls, except for the embedder's own probes.
 */
export function countEmbedder<E extends OllamaEmbedder>(registry: Registry, embedder: E): E {
  const registers = [registry];
  const calls = new Counter({
    name: "memory_service_embed_calls_total",
    help: "Number of calls to the embedder by role, including calls answered from the cache.",
    labelNames: ["role"] as const,
    registers,
  });
  const texts = new Counter({
    name: "memory_service_embed_texts_total",
    help: "Number of texts passed to the embedder by role.",
    labelNames: ["role"] as const,
    registers,
  });
  const failures = new Counter({
    name: "memory_service_embed_failures_total",
    help: 'Number of failed calls to the embedder by role and kind. The kind is "canceled" if the caller canceled.',
    labelNames: ["role", "kind"] as const,
    registers,
  });
  const duration = new Histogram({
    name: "memory_service_embed_duration_seconds",
    help: "Time a caller waits for embeddings, in seconds, including failed calls.",
    labelNames: ["role"] as const,
    buckets: embedBuckets,
    registers,
  });
  registerState(registry, embedder);

  const embed: Embedder["embed"] = async (given, role, signal) => {
    const start = performance.now();
    calls.inc({ role });
    texts.inc({ role }, given.length);
    try {
      return await embedder.embed(given, role, signal);
    } catch (error) {
      failures.inc({ role, kind: kindOf(error, signal) });
      throw error;
    } finally {
      duration.observe({ role }, (performance.now() - start) / 1_000);
    }
  };
  return { ...embedder, embed };
}

function kindOf(error: unknown, signal: AbortSignal | undefined): string {
  if (error instanceof EmbedError) return error.kind;
  return signal?.aborted ? "canceled" : "internal";
}

function registerState(registry: Registry, embedder: OllamaEmbedder): void {
  const registers = [registry];
  new Gauge({
    name: "memory_service_embedder_available",
    help: "1 if the embedder is available, otherwise 0.",
    registers,
    collect() {
      this.set(embedder.status().available ? 1 : 0);
    },
  });
  new Gauge({
    name: "memory_service_embedder_circuit",
    help: "1 for the current state of the circuit breaker, 0 for the other states.",
    labelNames: ["state"] as const,
    registers,
    collect() {
      const { circuit } = embedder.stats();
      for (const state of circuitStates) this.set({ state }, state === circuit ? 1 : 0);
    },
  });
  new Gauge({
    name: "memory_service_embedder_waiting_texts",
    help: "Number of texts waiting for a batch.",
    registers,
    collect() {
      this.set(embedder.stats().waitingTexts);
    },
  });
  new Gauge({
    name: "memory_service_embedder_cached_queries",
    help: "Number of embeddings in the query cache.",
    registers,
    collect() {
      this.set(embedder.stats().cachedQueries);
    },
  });
}
