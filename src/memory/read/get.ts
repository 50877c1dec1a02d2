import type { CallContext } from "../model/call-context.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { domainNotFound, memoryNotFound } from "../model/errors.ts";
import type { Memory } from "../model/memory.ts";
import type { MemoryStore } from "../model/memory-store.ts";

/** Identifies a memory. */
export interface MemoryKey {
  readonly domain: string;
  readonly id: string;
}

/** @throws ServiceError MEMORY_NOT_FOUND, DOMAIN_NOT_FOUND */
export type Get = (key: MemoryKey, call: CallContext) => Promise<Memory>;

/** Creates Get, which reads one memory. */
export function createGet({ repository }: { readonly repository: DomainStore & MemoryStore }): Get {
  return async ({ domain, id }, { signal }) => {
    // Checks the cached domain first, so that a missing domain does not cause a failing statement.
    if ((await repository.findDomain(domain, signal)) === undefined) throw domainNotFound(domain);
    const memory = await repository.read(domain, id, signal);
    if (memory === undefined) throw memoryNotFound(domain, id);
    return memory;
  };
}
