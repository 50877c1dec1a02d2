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

/** What `/metrics` answers. */
export interface MetricsReport {
  readonly contentType: string;
  readonly text: string;
}

/** The metrics of one server, in a registry of its own. */
export interface Metrics {
  /** Counts a call that has ended. */
  readonly countCall: (call: FinishedCall) => void;
  /** The same embedder, counted. Once. */
  readonly countEmbedder: <E extends OllamaEmbedder>(embedder: E) => E;
  /** The same repository, for the embedding worker alone: what it embeds is counted. Once. */
  readonly countBackgroundEmbeddings: (repository: Repository) => Repository;
  /** Counts expired memories that were removed. */
  readonly countExpired: (memories: number) => void;
  /** Everything in Prometheus's text format. */
  readonly report: () => Promise<MetricsReport>;
}

/** Collects the metrics of a server and of its process. No label comes from a client but the names of domains. */
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
    help: "Always 1; says what runs.",
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
    "Open connections to the database; the embedded engine has one.",
    (counts) => counts.total,
  );
  gauge(
    "memory_service_database_idle_connections",
    "Connections to the database that nobody uses.",
    (counts) => counts.idle,
  );
  gauge(
    "memory_service_database_waiting",
    "Statements and transactions that wait for a connection.",
    (counts) => counts.waiting,
  );
}
