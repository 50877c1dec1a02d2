import { LRUCache } from "lru-cache";
import type { DomainFigures, DomainRecord } from "../model/domain.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { ServiceError } from "../model/errors.ts";

/** Minimum time for which figures are cached. */
const MIN_CACHE_MS = 5_000;
/** Figures are cached this many times longer than counting took, so that counting uses at most 5 % of a connection. */
const CACHE_FACTOR = 20;
/** Number of domains counted concurrently. A page of domains must not occupy every connection of the pool. */
const CONCURRENCY = 2;
const MAX_CACHED_DOMAINS = 10_000;

/** Counts domains on demand, and caches the figures. */
export interface FiguresReader {
  /** Returns the figures. Concurrent callers share one count, which continues if a caller leaves. */
  read(domain: DomainRecord): Promise<DomainFigures>;
  /** Returns the figures of a page of domains by id. Domains deleted in the meantime are missing. */
  readAll(domains: readonly DomainRecord[], signal: AbortSignal): Promise<Map<bigint, DomainFigures>>;
  /** Discards the cached figures of a domain that has changed. */
  discard(domain: DomainRecord): void;
}

export function createFiguresReader(
  repository: Pick<DomainStore, "measureDomain">,
  now: () => number = () => performance.now(),
): FiguresReader {
  // By id, because a recreated domain has the same name.
  const cache = new LRUCache<bigint, Promise<DomainFigures>>({
    max: MAX_CACHED_DOMAINS,
    ttlResolution: 0,
    perf: { now },
  });

  function read(domain: DomainRecord): Promise<DomainFigures> {
    const cached = cache.get(domain.id);
    if (cached !== undefined) return cached;
    const start = now();
    const figures = repository.measureDomain(domain);
    cache.set(domain.id, figures);
    figures.then(
      () => {
        const ttl = Math.ceil(Math.max(MIN_CACHE_MS, (now() - start) * CACHE_FACTOR));
        if (cache.peek(domain.id) === figures) cache.set(domain.id, figures, { ttl });
      },
      () => {
        if (cache.peek(domain.id) === figures) cache.delete(domain.id);
      },
    );
    return figures;
  }

  return {
    read,

    async readAll(domains, signal) {
      const found = new Map<bigint, DomainFigures>();
      const remaining = domains.values();
      await Promise.all(
        Array.from({ length: CONCURRENCY }, async () => {
          for (const domain of remaining) {
            signal.throwIfAborted();
            const figures = await read(domain).catch(ignoreMissing);
            if (figures !== undefined) found.set(domain.id, figures);
          }
        }),
      );
      return found;
    },

    discard(domain) {
      cache.delete(domain.id);
    },
  };
}

function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND")) throw error;
}
