import type { CallContext } from "../model/call-context.ts";
import type { RetryStep } from "../model/embedding-queue.ts";
import { domainNotFound } from "../model/errors.ts";
import type { Filter } from "../model/filter.ts";
import type { Repository } from "../model/repository.ts";

export interface RetryFailedCommand {
  readonly domain: string;
  /** Undefined: all that failed. */
  readonly filter: Filter | undefined;
}

/**
 * Returns how many memories were made pending.
 *
 * @param onStep told how many they are so far.
 * @throws ServiceError DOMAIN_NOT_FOUND
 */
export type RetryFailed = (
  command: RetryFailedCommand,
  call: CallContext,
  onStep?: (retried: bigint) => void,
) => Promise<bigint>;

/** Memories changed by one statement: on the embedded engine everybody else waits for it. */
const STEP = 1_000;

/** Makes memories pending whose embedding failed for good, in steps that commit by themselves. */
export function createRetryFailed(dependencies: {
  readonly repository: Repository;
  /** Told of a domain that has pending memories again. */
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
