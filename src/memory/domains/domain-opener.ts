import type { ContentEmbedder } from "../embed/content-embedder.ts";
import { type DomainRecord, StaleDomainError } from "../model/domain.ts";
import { ServiceError } from "../model/errors.ts";
import type { Repository } from "../model/repository.ts";

/** Finds the domains that are written to, and makes those that are missing. */
export interface DomainOpener {
  /** @throws ServiceError DOMAIN_NOT_FOUND if there is none and none may be made; DOMAIN_LIMIT_REACHED. */
  open(name: string, signal: AbortSignal): Promise<DomainRecord>;
  /** The same for a domain that was there a moment ago: dropped behind this server's back, it is missing like any other. */
  reopen(name: string): Promise<DomainRecord>;
}

export function createDomainOpener(dependencies: {
  readonly repository: Repository;
  readonly contents: ContentEmbedder;
  readonly createDomains: boolean;
  /** How many there may be; undefined: any number. */
  readonly maxDomains?: number | undefined;
}): DomainOpener {
  const { repository, contents } = dependencies;
  const underWay = new Map<string, Promise<DomainRecord>>();

  /** Once for all that wait for the same domain: each would hold a connection, and others need some. */
  async function reopen(name: string): Promise<DomainRecord> {
    if (!dependencies.createDomains) {
      throw new ServiceError(
        "DOMAIN_NOT_FOUND",
        `domain "${name}" not found, and storing may not create it: call DomainService.CreateDomain`,
        { metadata: { domain: name } },
      );
    }
    const making = underWay.get(name);
    if (making !== undefined) return await making;
    const made = make(name).finally(() => underWay.delete(name));
    underWay.set(name, made);
    return await made;
  }

  async function make(name: string): Promise<DomainRecord> {
    const dimensions = (await contents.current())?.dimensions;
    const { maxDomains } = dependencies;
    const { domain } = await repository.createDomain(name, dimensions, { maxDomains });
    return domain.embeddingVersion === undefined ? await contents.of(domain).align(domain) : domain;
  }

  return {
    reopen,
    async open(name, signal) {
      return (await repository.findDomain(name, signal)) ?? (await reopen(name));
    },
  };
}

/**
 * The domain, or why nothing can be written to it: that is the matter of what should go there. A database that is away is
 * everybody's.
 *
 * @throws what is no refusal of the domain
 */
export async function orRefusal<T>(opening: Promise<T>): Promise<T | ServiceError> {
  try {
    return await opening;
  } catch (error) {
    if (error instanceof ServiceError) {
      if (error.reason === "DOMAIN_NOT_FOUND" || error.reason === "DOMAIN_LIMIT_REACHED") return error;
    }
    throw error;
  }
}

/**
 * What to open before a write into several domains is tried again; undefined: nothing, after a conflict.
 *
 * @throws the error, if trying again does not help
 */
export function openAgain(
  domains: DomainOpener,
  error: ServiceError,
  signal: AbortSignal,
): { readonly name: string; readonly opening: Promise<DomainRecord> } | undefined {
  const { domain: name } = error.metadata;
  if (error instanceof StaleDomainError && name !== undefined) {
    return { name, opening: domains.open(name, signal) };
  }
  if (error.reason === "DOMAIN_NOT_FOUND" && name !== undefined) {
    return { name, opening: domains.reopen(name) };
  }
  if (error.reason !== "CONFLICT") throw error;
  return undefined;
}
