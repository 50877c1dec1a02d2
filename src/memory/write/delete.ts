import type { CallContext } from "../model/call-context.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { domainNotFound, memoryNotFound, versionMismatch } from "../model/errors.ts";
import type { MemoryStore } from "../model/memory-store.ts";
import type { MemoryKey } from "../read/get.ts";

export interface DeleteCommand extends MemoryKey {
  /** Whether deleting a memory that does not exist succeeds. */
  readonly allowMissing: boolean;
  /** Undefined deletes any version. */
  readonly expectedVersion: bigint | undefined;
}

/**
 * Returns whether a memory was deleted.
 *
 * @throws ServiceError MEMORY_NOT_FOUND, DOMAIN_NOT_FOUND, VERSION_MISMATCH
 */
export type Delete = (command: DeleteCommand, call: CallContext) => Promise<boolean>;

/** Creates Delete, which permanently deletes one memory. */
export function createDelete({ repository }: { readonly repository: DomainStore & MemoryStore }): Delete {
  return async ({ domain, id, allowMissing, expectedVersion }, { signal }) => {
    if ((await repository.findDomain(domain, signal)) === undefined) throw domainNotFound(domain);
    const deletion = await repository.delete(domain, id, expectedVersion, signal);
    switch (deletion.kind) {
      case "deleted":
        return true;
      case "missing":
        if (!allowMissing) throw memoryNotFound(domain, id);
        return false;
      case "other-version":
        throw versionMismatch({ domain, id }, expectedVersion, deletion.version);
    }
  };
}
