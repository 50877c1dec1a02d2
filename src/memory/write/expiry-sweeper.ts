import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../../util/logger.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { ServiceError } from "../model/errors.ts";
import type { MemoryStore } from "../model/memory-store.ts";

/** Interval between sweeps. Expired memories are invisible already, so sweeping only frees space. */
const SWEEP_MS = 30_000;
/** Memories deleted by one statement. On the embedded engine every other call waits for it. */
const STEP = 500;

export interface ExpirySweeper {
  /** Stops at once. A running step is rolled back. */
  close(): Promise<void>;
}

/** Starts deleting expired memories in the background. Any number of servers share the work. */
export function startExpirySweeper(dependencies: {
  readonly repository: DomainStore & MemoryStore;
  readonly logger: Logger;
  /** Called with the number of memories that a step has deleted. */
  readonly onDeleted?: ((memories: number) => void) | undefined;
  /** Defaults to 30,000. */
  readonly intervalMs?: number;
}): ExpirySweeper {
  const { repository, logger, onDeleted, intervalMs = SWEEP_MS } = dependencies;
  const stop = new AbortController();
  const done = run();

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      await sweepAll().catch((error: unknown) => {
        if (!stop.signal.aborted) logger.warn({ err: error }, "could not delete expired memories");
      });
      await sleep(intervalMs, undefined, { signal: stop.signal, ref: false }).catch(() => {});
    }
  }

  async function sweepAll(): Promise<void> {
    for (const { name } of await repository.listDomains(stop.signal)) {
      const deleted = await sweepDomain(name);
      if (deleted > 0) logger.info({ domain: name, memories: deleted }, "deleted expired memories");
    }
  }

  async function sweepDomain(domain: string): Promise<number> {
    let deleted = 0;
    try {
      for (;;) {
        const step = await repository.sweepExpired(domain, STEP, stop.signal);
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

  return {
    async close() {
      stop.abort(new ServiceError("SHUTTING_DOWN", "the server is shutting down"));
      await done;
    },
  };
}
