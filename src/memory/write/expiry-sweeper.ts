import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../../util/logger.ts";
import { ServiceError } from "../model/errors.ts";
import type { Repository } from "../model/repository.ts";

/** How often all domains are looked at. Expired memories are invisible already: this is about space. */
const SWEEP_MS = 30_000;
/** Memories deleted by one statement: on the embedded engine everybody else waits for it. */
const STEP = 500;

export interface ExpirySweeper {
  /** Stops at once, between two steps or in the middle of one, which is then rolled back. */
  close(): Promise<void>;
}

/** Removes expired memories in the background, on as many servers as there are. */
export function startExpirySweeper(dependencies: {
  readonly repository: Repository;
  readonly logger: Logger;
  /** Told how many memories were removed. */
  readonly onRemoved?: ((memories: number) => void) | undefined;
  /** Default 30,000. */
  readonly intervalMs?: number;
}): ExpirySweeper {
  const { repository, logger, onRemoved, intervalMs = SWEEP_MS } = dependencies;
  const stop = new AbortController();
  const done = run();

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      await sweepAll().catch((error: unknown) => {
        if (!stop.signal.aborted) logger.warn({ err: error }, "expired memories could not be removed");
      });
      await sleep(intervalMs, undefined, { signal: stop.signal, ref: false }).catch(() => {});
    }
  }

  async function sweepAll(): Promise<void> {
    for (const { name } of await repository.listDomains(stop.signal)) {
      const removed = await sweepDomain(name);
      if (removed > 0) logger.info({ domain: name, memories: removed }, "removed expired memories");
    }
  }

  async function sweepDomain(domain: string): Promise<number> {
    let removed = 0;
    try {
      for (;;) {
        const step = await repository.sweepExpired(domain, STEP, stop.signal);
        removed += step;
        if (step > 0) onRemoved?.(step);
        if (step < STEP) return removed;
      }
    } catch (error) {
      const dropped = error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND";
      if (!dropped) throw error;
      return removed;
    }
  }

  return {
    async close() {
      stop.abort(new ServiceError("SHUTTING_DOWN", "the server is shutting down"));
      await done;
    },
  };
}
