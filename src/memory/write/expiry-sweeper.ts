import { type BackgroundLoop, startBackgroundLoop } from "../../util/background-loop.ts";
import type { Logger } from "../../util/logger.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { ServiceError } from "../model/errors.ts";
import type { MemoryStore } from "../model/memory-store.ts";

/** Interval between sweeps. Expired memories are invisible already, so sweeping only frees space. */
const SWEEP_MS = 30_000;
/** Memories deleted by one statement. On the embedded engine every other call waits for it. */
const STEP = 500;

/** Starts deleting expired memories in the background. Any number of servers share the work. Closing rolls a running step back. */
export function startExpirySweeper(dependencies: {
  readonly repository: DomainStore & MemoryStore;
  readonly logger: Logger;
  /** Called with the number of memories that a step has deleted. */
  readonly onDeleted?: ((memories: number) => void) | undefined;
  /** Defaults to 30,000. */
  readonly intervalMs?: number;
}): BackgroundLoop {
  const { repository, logger, onDeleted, intervalMs = SWEEP_MS } = dependencies;
  async function sweepAll(signal: AbortSignal): Promise<void> {
    for (const { name } of await repository.listDomains(signal)) {
      const deleted = await sweepDomain(name, signal);
      if (deleted > 0) logger.info({ domain: name, memories: deleted }, "deleted expired memories");
    }
  }

  async function sweepDomain(domain: string, signal: AbortSignal): Promise<number> {
    let deleted = 0;
    try {
      for (;;) {
        const step = await repository.sweepExpired(domain, STEP, signal);
        deleted += step;
        if (step > 0) onDeleted?.(step);
        if (step < STEP) return deleted;
      }
    } catch (error) {
      const dropped = error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND";
      if (!dropped) throw error;
      return deleted;
    }
  }

  return startBackgroundLoop({
    run: sweepAll,
    onError: (error) => logger.warn({ err: error }, "could not delete expired memories"),
    pauseMs: () => intervalMs,
    closeReason: new ServiceError("SHUTTING_DOWN", "the server is shutting down"),
  });
}
