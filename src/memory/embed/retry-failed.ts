import type { CallContext } from "../model/call-context.ts";
import type { DomainStore } from "../model/domain-store.ts";
import type { EmbeddingQueue, RetryStep } from "../model/embedding-queue.ts";
import { domainNotFound } from "../model/errors.ts";
import type { Filter } from "../model/filter.ts";

export interface RetryFailedCommand {
  readonly domain: string;
  /** Undefined for all failed memories. */
  readonly filter: Filter | undefined;
}

/**
 * Returns the number of memories that became pending.
 *
 * @param onStep Called with the number so far.
 * @throws ServiceError DOMAIN_NOT_FOUND
 */
export type RetryFailed = (
  command: RetryFailedCommand,
  call: CallContext,
  onStep?: (retried: bigint) => void,
) => Promise<bigint>;

/** Memories changed by one statement. On the embedded engine every other call waits for it. */
const STEP = 1_000;

/** Creates RetryFailed, which makes failed memories pending in steps, each its own transaction. */
export function createRetryFailed(dependencies: {
  readonly repository: DomainStore & EmbeddingQueue;
  /** Called with the domain that has pending memories again. */
  readonly onPending: (domain: string) => void;
}): RetryFailed {
  const { repository, onPending } = dependencies;
  return async ({ domain, filter }, { signal }, onStep) => {
    if ((await repository.findDomain(domain, signal)) === undefined) throw domainNotFound(domain);
    let retried = 0n;
    let after: string | undefined;
    try {
      do {
        signal.throwIfAborted();
        const step: RetryStep = await repository.retryFailed(domain, { filter, after, limit: STEP }, signal);
        retried += step.retried;
        onStep?.(retried);
        after = step.last;
      } while (after !== undefined);
    } finally {
      if (retried > 0n) onPending(domain);
    }
    return retried;
  };
}
