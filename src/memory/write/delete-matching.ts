import type { CallContext } from "../model/call-context.ts";
import { domainNotFound } from "../model/errors.ts";
import type { Filter } from "../model/filter.ts";
import type { DeletionStep } from "../model/memory-store.ts";
import type { Repository } from "../model/repository.ts";

export interface DeleteMatchingCommand {
  readonly domain: string;
  readonly filter: Filter;
  /** Only count them. */
  readonly dryRun: boolean;
}

/**
 * @param onStep told how many are deleted so far: of a call that fails in between nobody else knows.
 * @throws ServiceError DOMAIN_NOT_FOUND
 */
export type DeleteMatching = (
  command: DeleteMatchingCommand,
  call: CallContext,
  onStep?: (deleted: bigint) => void,
) => Promise<{ readonly matched: bigint; readonly deleted: bigint }>;

/** Memories deleted by one statement: on the embedded engine everybody else waits for it. */
const STEP = 500;

/** Deletes what matches, in steps that commit by themselves, until nothing is left or the caller leaves. */
export function createDeleteMatching({ repository }: { readonly repository: Repository }): DeleteMatching {
  return async ({ domain: name, filter, dryRun }, { signal }, onStep) => {
    // As it is now: what was stored in a new domain of the same name was not meant.
    const domain = await repository.readDomain(name, signal);
    if (domain === undefined) throw domainNotFound(name);
    if (dryRun) return { matched: await repository.countMatching(name, filter, signal), deleted: 0n };
    let matched = 0n;
    let deleted = 0n;
    let after: string | undefined;
    do {
      signal.throwIfAborted();
      const step: DeletionStep = await repository.deleteMatching(
        name,
        { filter, after, limit: STEP },
        signal,
      );
      matched += step.matched;
      deleted += step.deleted;
      onStep?.(deleted);
      after = step.last;
    } while (after !== undefined);
    return { matched, deleted };
  };
}
