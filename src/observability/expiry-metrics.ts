import { Counter, type Registry } from "prom-client";

/** Registers the metric of the expiry sweeper. Returns a function that counts removed memories. */
export function registerExpiryMetrics(registry: Registry): (memories: number) => void {
  const removed = new Counter({
    name: "memory_service_expired_memories_total",
    help: "Number of expired memories removed by this server.",
    registers: [registry],
  });
  return (memories) => removed.inc(memories);
}
