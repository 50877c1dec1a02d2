import { Gauge, type Registry } from "prom-client";
import type { Logger } from "../util/logger.ts";

/** Number of pending memories by domain. */
export type PendingCounts = ReadonlyMap<string, number>;

export interface PendingMetricsOptions {
  /** Queries the database. The signal aborts after `timeoutMs`. */
  readonly countPending: (signal: AbortSignal) => Promise<PendingCounts>;
  readonly logger: Logger;
  /** Time for which a result or a failure is cached. Defaults to 5,000. */
  readonly cacheMs?: number;
  /**
   * Timeout of the query. Short, because an unavailable database must not delay the other metrics. Defaults to 1,000.
   */
  readonly timeoutMs?: number;
  /** Returns monotonic time in milliseconds. Defaults to performance.now. */
  readonly now?: () => number;
}

/** Registers the gauge of pending memories. It has no values while the database is unavailable. */
export function registerPendingMetrics(registry: Registry, options: PendingMetricsOptions): void {
  const { cacheMs = 5_000, timeoutMs = 1_000, now = () => performance.now() } = options;
  let current: Promise<PendingCounts> | undefined;
  let until = Number.NEGATIVE_INFINITY;

  /** Shares one query among concurrent scrapes. Never rejects. */
  function counts(): Promise<PendingCounts> {
    if (current === undefined || now() >= until) {
      until = Number.POSITIVE_INFINITY;
      current = options
        .countPending(AbortSignal.timeout(timeoutMs))
        .catch((error: unknown): PendingCounts => {
          options.logger.debug({ err: error }, "cannot count pending memories");
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
      "Number of memories waiting for an embedding, by domain, up to 5 seconds old. Counts at most 10,000 memories " +
      "in the first 100 domains by name. No values while the database is unavailable.",
    labelNames: ["domain"] as const,
    registers: [registry],
    async collect() {
      const found = await counts();
      this.reset();
      for (const [domain, count] of found) this.set({ domain }, count);
    },
  });
}
