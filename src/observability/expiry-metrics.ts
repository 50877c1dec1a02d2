import { Counter, type Registry } from "prom-client";

/** Registers the metric of the expiry sweeper. Returns what counts memories that it has removed. */
export function registerExpiryMetrics(registry: Registry): (memories: number) => void {
  const removed = new Counter({
    name: "memory_service_expired_memories_total",
    help: "Expired memories that this server has removed.",
    registers: [registry],
  });
  return (memories) => removed.inc(memories);
}
