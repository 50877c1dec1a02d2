import type { CallContext } from "../model/call-context.ts";
import { domainNotFound, memoryNotFound, versionMismatch } from "../model/errors.ts";
import type { Repository } from "../model/repository.ts";
import type { MemoryKey } from "../read/get.ts";

export interface DeleteCommand extends MemoryKey {
  /** Whether a memory that is not there is what was wanted. */
  readonly allowMissing: boolean;
  /** Undefined: whatever its version. */
  readonly expectedVersion: bigint | undefined;
}

/**
 * Returns whether there was a memory to delete.
 *
 * @throws ServiceError MEMORY_NOT_FOUND, DOMAIN_NOT_FOUND, VERSION_MISMATCH
 */
export type Delete = (command: DeleteCommand, call: CallContext) => Promise<boolean>;

/** Deletes one memory for good. */
export function createDelete({ repository }: { readonly repository: Repository }): Delete {
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
