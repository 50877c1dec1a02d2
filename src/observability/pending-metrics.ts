import { Gauge, type Registry } from "prom-client";
import type { Logger } from "../util/logger.ts";

/** Domain and its pending memories. */
export type PendingCounts = ReadonlyMap<string, number>;

export interface PendingMetricsOptions {
  /** Asks the database; the signal ends after `timeoutMs`. */
  readonly countPending: (signal: AbortSignal) => Promise<PendingCounts>;
  readonly logger: Logger;
  /** How long an answer, or its absence, is believed. Default 5,000. */
  readonly cacheMs?: number;
  /** Scrapes time out after seconds and the other metrics must not wait for a database that is away. Default 1,000. */
  readonly timeoutMs?: number;
  /** Milliseconds, monotonic. Default performance.now. */
  readonly now?: () => number;
}

/** Registers the gauge of pending memories. It has no values while the database does not answer. */
export function registerPendingMetrics(registry: Registry, options: PendingMetricsOptions): void {
  const { cacheMs = 5_000, timeoutMs = 1_000, now = () => performance.now() } = options;
  let current: Promise<PendingCounts> | undefined;
  let until = Number.NEGATIVE_INFINITY;

  /** One question at a time, however many scrape. Never rejects. */
  function counts(): Promise<PendingCounts> {
    if (current === undefined || now() >= until) {
      until = Number.POSITIVE_INFINITY;
      current = options
        .countPending(AbortSignal.timeout(timeoutMs))
        .catch((error: unknown): PendingCounts => {
          options.logger.debug({ err: error }, "pending memories could not be counted");
          return new Map();
        })
        .finally(() => {
          until = now() + cacheMs;
        });
    }
    return current;
  }

  new Gauge({
    name: "memory_service_pending_memories",
    help:
      "Memories that wait for their embedding, by domain, some seconds old. At most 10,000 are counted, " +
      "in the first 100 domains by name; without values while the database does not answer.",
    labelNames: ["domain"] as const,
    registers: [registry],
    async collect() {
      const found = await counts();
      this.reset();
      for (const [domain, count] of found) this.set({ domain }, count);
    },
  });
}
