import { collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { OllamaEmbedder } from "../embedding/ollama/ollama-embedder.ts";
import type { Repository } from "../memory/model/repository.ts";
import type { ConnectionCounts } from "../storage/database/database.ts";
import type { Logger } from "../util/logger.ts";
import { type FinishedCall, registerCallMetrics } from "./call-metrics.ts";
import { countEmbedder } from "./embedder-metrics.ts";
import { registerExpiryMetrics } from "./expiry-metrics.ts";
import { type PendingCounts, registerPendingMetrics } from "./pending-metrics.ts";
import { countBackgroundEmbeddings } from "./worker-metrics.ts";

/** The response to `/metrics`. */
export interface MetricsReport {
  readonly contentType: string;
  readonly text: string;
}

/** The metrics of one server, in their own registry. */
export interface Metrics {
  /** Counts a finished call. */
  readonly countCall: (call: FinishedCall) => void;
  /** Returns a wrapper of the embedder that counts its calls. Call it once. */
  readonly countEmbedder: <E extends OllamaEmbedder>(embedder: E) => E;
  /** Returns a wrapper of the repository that counts what the embedding worker embeds. Call it once. */
  readonly countBackgroundEmbeddings: (repository: Repository) => Repository;
  /** Counts removed expired memories. */
  readonly countExpired: (memories: number) => void;
  /** Returns all metrics in the Prometheus text format. */
  readonly report: () => Promise<MetricsReport>;
}

/** Creates the metrics of a server and its process. Domain names are the only labels that clients choose. */
export function createMetrics(sources: {
  readonly version: string;
  readonly engine: string;
  readonly connections: () => ConnectionCounts;
  readonly countPending: (signal: AbortSignal) => Promise<PendingCounts>;
  readonly logger: Logger;
}): Metrics {
  const registry = new Registry();
  const { version, engine } = sources;

  new Gauge({
    name: "memory_service_info",
    help: "Version and engine of the server. Always 1.",
    labelNames: ["version", "engine"] as const,
    registers: [registry],
  }).set({ version, engine }, 1);

  const countCall = registerCallMetrics(registry);
  const countExpired = registerExpiryMetrics(registry);

  registerConnections(registry, sources.connections);
  registerPendingMetrics(registry, sources);
  collectDefaultMetrics({ register: registry });

  return {
    countCall,
    countExpired,
    countEmbedder: (embedder) => countEmbedder(registry, embedder),
    countBackgroundEmbeddings: (repository) => countBackgroundEmbeddings(registry, repository),
    report: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  };
}

function registerConnections(registry: Registry, connections: () => ConnectionCounts): void {
  const gauge = (name: string, help: string, read: (counts: ConnectionCounts) => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read(connections()));
      },
    });
  gauge(
    "memory_service_database_connections",
    "Number of open database connections. The embedded engine has one.",
    (counts) => counts.total,
  );
  gauge(
    "memory_service_database_idle_connections",
    "Number of idle database connections.",
    (counts) => counts.idle,
  );
  gauge(
    "memory_service_database_waiting",
    "Number of statements and transactions waiting for a connection.",
    (counts) => counts.waiting,
  );
}
