import { type BackgroundLoop, startBackgroundLoop } from "../../util/background-loop.ts";
import type { Logger } from "../../util/logger.ts";
import type { ReindexQueue } from "../model/domain-store.ts";
import { ServiceError } from "../model/errors.ts";

/** Interval at which domains are checked for work that another server has left. */
const CHECK_MS = 15_000;
/** Pause after an error of the database. */
const RETRY_MS = 2_000;
/** Target duration of a step. Writers of its memories wait for it, and on the embedded engine every call does. */
const STEP_MS = 100;
const FIRST_STEP = 20;
const LARGEST_STEP = 1_000;

/**
 * Reindexes the texts of domains whose text search configuration has changed, in steps, on one server at a time. Each
 * step records its progress, from which reindexing resumes after an interruption.
 */
export function startTextReindexer(dependencies: {
  readonly repository: ReindexQueue;
  readonly logger: Logger;
}): BackgroundLoop {
  const { repository, logger } = dependencies;
  async function reindex(name: string, signal: AbortSignal): Promise<void> {
    let step = FIRST_STEP;
    let memories = 0;
    for (;;) {
      signal.throwIfAborted();
      const start = performance.now();
      const more = await stepOf(name, step);
      if (!more) break;
      memories += step;
      const ms = performance.now() - start;
      step = Math.round(Math.min(LARGEST_STEP, Math.max(1, step * Math.min(2, STEP_MS / Math.max(ms, 1)))));
    }
    logger.info({ domain: name, memories }, "reindexed the texts of a domain");
  }

  async function stepOf(name: string, step: number): Promise<boolean> {
    try {
      return await repository.reindexTexts(name, step);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      // The domain was deleted, or the step conflicted with a writer.
      if (error.reason === "DOMAIN_NOT_FOUND") return false;
      if (error.reason === "CONFLICT") return true;
      throw error;
    }
  }

  return startBackgroundLoop({
    async run(signal) {
      for (const name of await repository.listReindexing(signal)) await reindex(name, signal);
    },
    onError: (error) => logger.warn({ err: error }, "could not reindex texts; retrying in 2 s"),
    pauseMs: () => CHECK_MS,
    retryMs: RETRY_MS,
  });
}
