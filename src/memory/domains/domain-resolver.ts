import type { ContentEmbedder } from "../embed/content-embedder.ts";
import { type DomainRecord, StaleDomainError } from "../model/domain.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { domainNotFound, ServiceError } from "../model/errors.ts";

/** Domains by name; for a domain that cannot be written to, the error. Work may replace a record by a newer one. */
export type ResolvedDomains = Map<string, DomainRecord | ServiceError>;

/**
 * Resolves the domains that a write needs, and repeats the write when a cached domain turns out to be stale: another
 * server has deleted or recreated the domain, or changed its dimensions. Work is repeated at most once for each domain,
 * so it must be safe to run again after a StaleDomainError or DOMAIN_NOT_FOUND.
 */
export interface DomainResolver {
  /**
   * Runs work in an existing domain.
   *
   * @throws ServiceError DOMAIN_NOT_FOUND
   */
  withDomain<T>(name: string, work: (domain: DomainRecord) => Promise<T>, signal: AbortSignal): Promise<T>;
  /**
   * Runs work in several domains, and creates those that are missing. A domain that does not exist and cannot be
   * created is passed to the work as its error: DOMAIN_NOT_FOUND or DOMAIN_LIMIT_REACHED. Any other error fails the
   * call.
   */
  withDomains<T>(
    names: Iterable<string>,
    work: (domains: ResolvedDomains) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T>;
}

export function createDomainResolver(dependencies: {
  readonly repository: DomainStore;
  readonly contents: ContentEmbedder;
  /** Whether a missing domain may be created. */
  readonly createDomains: boolean;
  /** Maximum number of domains; undefined for no limit. */
  readonly maxDomains?: number | undefined;
}): DomainResolver {
  const { repository, contents } = dependencies;
  const creating = new Map<string, Promise<DomainRecord>>();

  /** Concurrent calls for the same domain share one creation, because each would hold a connection. */
  async function create(name: string): Promise<DomainRecord> {
    if (!dependencies.createDomains) {
      throw new ServiceError(
        "DOMAIN_NOT_FOUND",
        `domain "${name}" does not exist, and this server does not create domains when storing; ` +
          "call DomainService.CreateDomain",
        { metadata: { domain: name } },
      );
    }
    const running = creating.get(name);
    if (running !== undefined) return await running;
    const created = createAligned(name).finally(() => creating.delete(name));
    creating.set(name, created);
    return await created;
  }

  async function createAligned(name: string): Promise<DomainRecord> {
    const dimensions = (await contents.current())?.dimensions;
    const { maxDomains } = dependencies;
    const { domain } = await repository.createDomain(name, dimensions, { maxDomains });
    return domain.embeddingVersion === undefined ? await contents.of(domain).align(domain) : domain;
  }

  async function find(name: string, signal: AbortSignal): Promise<DomainRecord> {
    const domain = await repository.findDomain(name, signal);
    if (domain === undefined) throw domainNotFound(name);
    return domain;
  }

  async function findOrCreate(name: string, signal: AbortSignal): Promise<DomainRecord> {
    return (await repository.findDomain(name, signal)) ?? (await create(name));
  }

  return {
    async withDomain(name, work, signal) {
      try {
        return await work(await find(name, signal));
      } catch (error) {
        if (!(error instanceof StaleDomainError)) throw error;
        return await work(await find(name, signal));
      }
    },

    async withDomains(names, work, signal) {
      const domains: ResolvedDomains = new Map();
      for (const name of new Set(names)) domains.set(name, await orRefusal(findOrCreate(name, signal)));
      const repeated = new Set<string>();
      for (;;) {
        try {
          return await work(domains);
        } catch (error) {
          const name = staleDomain(error);
          if (name === undefined || repeated.has(name)) throw error;
          const known = domains.get(name);
          if (known === undefined || known instanceof ServiceError) throw error;
          repeated.add(name);
          const resolved = error instanceof StaleDomainError ? findOrCreate(name, signal) : create(name);
          domains.set(name, await orRefusal(resolved));
        }
      }
    },
  };
}

/** Returns the domain that an error reports as changed or deleted; undefined for any other error. */
function staleDomain(error: unknown): string | undefined {
  if (!(error instanceof ServiceError)) return undefined;
  const isStale = error instanceof StaleDomainError || error.reason === "DOMAIN_NOT_FOUND";
  return isStale ? error.metadata.domain : undefined;
}

/** Returns the error of a domain that cannot be written to, which concerns only the memories of that domain. */
async function orRefusal(resolving: Promise<DomainRecord>): Promise<DomainRecord | ServiceError> {
  try {
    return await resolving;
  } catch (error) {
    if (error instanceof ServiceError) {
      if (error.reason === "DOMAIN_NOT_FOUND" || error.reason === "DOMAIN_LIMIT_REACHED") return error;
    }
    throw error;
  }
}
