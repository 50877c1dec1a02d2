import type { CallContext } from "../model/call-context.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { domainNotFound } from "../model/errors.ts";
import type { Filter } from "../model/filter.ts";
import type { DeletionStep, MemoryStore } from "../model/memory-store.ts";

export interface DeleteMatchingCommand {
  readonly domain: string;
  readonly filter: Filter;
  /** Whether to count the matching memories without deleting them. */
  readonly dryRun: boolean;
}

/**
 * @param onStep Called with the number deleted so far, which a call that fails between steps could not report.
 * @throws ServiceError DOMAIN_NOT_FOUND
 */
export type DeleteMatching = (
  command: DeleteMatchingCommand,
  call: CallContext,
  onStep?: (deleted: bigint) => void,
) => Promise<{ readonly matched: bigint; readonly deleted: bigint }>;

/** Memories deleted by one statement. On the embedded engine every other call waits for it. */
const STEP = 500;

/**
 * Creates DeleteMatching, which deletes in steps, each its own transaction, until none is left or the caller leaves.
 */
export function createDeleteMatching({
  repository,
}: {
  readonly repository: DomainStore & MemoryStore;
}): DeleteMatching {
  return async ({ domain: name, filter, dryRun }, { signal }, onStep) => {
    // The current domain: the caller does not mean the memories of a recreated domain.
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
