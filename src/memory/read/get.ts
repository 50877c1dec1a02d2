import type { CallContext } from "../model/call-context.ts";
import { domainNotFound, memoryNotFound } from "../model/errors.ts";
import type { Memory } from "../model/memory.ts";
import type { Repository } from "../model/repository.ts";

/** Names a memory. */
export interface MemoryKey {
  readonly domain: string;
  readonly id: string;
}

/** @throws ServiceError MEMORY_NOT_FOUND, DOMAIN_NOT_FOUND */
export type Get = (key: MemoryKey, call: CallContext) => Promise<Memory>;

/** Reads one memory. */
export function createGet({ repository }: { readonly repository: Repository }): Get {
  return async ({ domain, id }, { signal }) => {
    // A domain that is known to be missing costs no statement that fails.
    if ((await repository.findDomain(domain, signal)) === undefined) throw domainNotFound(domain);
    const memory = await repository.read(domain, id, signal);
    if (memory === undefined) throw memoryNotFound(domain, id);
    return memory;
  };
}
