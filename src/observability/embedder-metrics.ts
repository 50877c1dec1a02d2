import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { CircuitState } from "../embedding/circuit-breaker.ts";
import type { OllamaEmbedder } from "../embedding/ollama/ollama-embedder.ts";
import { type Embedder, EmbedError } from "../memory/model/embedder.ts";

/** Seconds. A cached query takes microseconds, a model that has to be loaded first up to minutes. */
const embedBuckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

const circuitStates: readonly CircuitState[] = ["closed", "open", "half-open"];

/**
 * Registers the metrics of the embedder.
 *
 * @returns the same embedder, whose calls are counted from now on. Its own probes are not.
 */
export function countEmbedder<E extends OllamaEmbedder>(registry: Registry, embedder: E): E {
  const registers = [registry];
  const calls = new Counter({
    name: "memory_service_embed_calls_total",
    help: "Calls to the embedder by role, those included that the cache answers.",
    labelNames: ["role"] as const,
    registers,
  });
  const texts = new Counter({
    name: "memory_service_embed_texts_total",
    help: "Texts given to the embedder by role.",
    labelNames: ["role"] as const,
    registers,
  });
  const failures = new Counter({
    name: "memory_service_embed_failures_total",
    help: 'Failed calls to the embedder by kind; "canceled" is a caller who left.',
    labelNames: ["role", "kind"] as const,
    registers,
  });
  const duration = new Histogram({
    name: "memory_service_embed_duration_seconds",
    help: "What a caller waits for embeddings, successful or not.",
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
    help: "1 if the embedder can be used.",
    registers,
    collect() {
      this.set(embedder.status().available ? 1 : 0);
    },
  });
  new Gauge({
    name: "memory_service_embedder_circuit",
    help: "1 for the state that the circuit breaker is in.",
    labelNames: ["state"] as const,
    registers,
    collect() {
      const { circuit } = embedder.stats();
      for (const state of circuitStates) this.set({ state }, state === circuit ? 1 : 0);
    },
  });
  new Gauge({
    name: "memory_service_embedder_waiting_texts",
    help: "Texts that wait for a batch.",
    registers,
    collect() {
      this.set(embedder.stats().waitingTexts);
    },
  });
  new Gauge({
    name: "memory_service_embedder_cached_queries",
    help: "Embeddings in the cache of queries.",
    registers,
    collect() {
      this.set(embedder.stats().cachedQueries);
    },
  });
}
