import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../../util/logger.ts";
import { ServiceError } from "../model/errors.ts";
import type { Repository } from "../model/repository.ts";

/** How often domains are looked at for work that another server has left. */
const LOOK_MS = 15_000;
/** Pause after a failure of the database. */
const RETRY_MS = 2_000;
/** How long a step should take: writers of its memories, and everybody on the embedded engine, wait for it. */
const STEP_MS = 100;
const FIRST_STEP = 20;
const LARGEST_STEP = 1_000;

export interface TextReindexer {
  /** Looks for work soon. */
  notify(): void;
  close(): Promise<void>;
}

/**
 * Indexes words anew where a domain's text search configuration was changed, in steps, on one of the servers at a time.
 * What is done is noted with each step: after an interruption it goes on from there.
 */
export function startTextReindexer(dependencies: {
  readonly repository: Pick<Repository, "listReindexing" | "reindexTexts">;
  readonly logger: Logger;
}): TextReindexer {
  const { repository, logger } = dependencies;
  const stop = new AbortController();
  let due = true;
  let wake = () => {};
  stop.signal.addEventListener("abort", () => wake(), { once: true });
  const done = run();

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      due = false;
      try {
        for (const name of await repository.listReindexing(stop.signal)) await reindex(name);
      } catch (error) {
        if (stop.signal.aborted) return;
        logger.warn({ err: error }, "indexing words anew pauses");
        due = true;
        await sleep(RETRY_MS, undefined, { signal: stop.signal }).catch(() => {});
      }
      if (!due && !stop.signal.aborted) await waitForWork();
    }
  }

  async function waitForWork(): Promise<void> {
    const timer = new AbortController();
    const looking = sleep(LOOK_MS, undefined, { signal: timer.signal, ref: false }).catch(() => {});
    await Promise.race([new Promise<void>((resolve) => (wake = resolve)), looking]);
    timer.abort();
  }

  async function reindex(name: string): Promise<void> {
    let step = FIRST_STEP;
    let memories = 0;
    for (;;) {
      stop.signal.throwIfAborted();
      const start = performance.now();
      const more = await stepOf(name, step);
      if (!more) break;
      memories += step;
      const ms = performance.now() - start;
      step = Math.round(Math.min(LARGEST_STEP, Math.max(1, step * Math.min(2, STEP_MS / Math.max(ms, 1)))));
    }
    logger.info({ domain: name, memories }, "indexed the words of a domain anew");
  }

  async function stepOf(name: string, step: number): Promise<boolean> {
    try {
      return await repository.reindexTexts(name, step);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      // Dropped meanwhile; or a writer was in the way.
      if (error.reason === "DOMAIN_NOT_FOUND") return false;
      if (error.reason === "CONFLICT") return true;
      throw error;
    }
  }

  return {
    notify() {
      due = true;
      wake();
    },
    async close() {
      stop.abort();
      await done;
    },
  };
}
