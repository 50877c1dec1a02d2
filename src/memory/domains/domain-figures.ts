import type { DomainFigures, DomainRecord } from "../model/domain.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { ServiceError } from "../model/errors.ts";

/** Minimum time for which figures are cached. */
const MIN_CACHE_MS = 5_000;
/** Figures are cached this many times longer than counting took, so that counting uses at most 5 % of a connection. */
const CACHE_FACTOR = 20;
/** Number of domains counted concurrently. A page of domains must not occupy every connection of the pool. */
const CONCURRENCY = 2;

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
  const cache = new Map<bigint, { readonly figures: Promise<DomainFigures>; until: number }>();

  async function measure(domain: DomainRecord, entry: { until: number }): Promise<DomainFigures> {
    const start = now();
    try {
      return await repository.measureDomain(domain);
    } finally {
      const end = now();
      entry.until = end + Math.max(MIN_CACHE_MS, (end - start) * CACHE_FACTOR);
    }
  }

  function read(domain: DomainRecord): Promise<DomainFigures> {
    const cached = cache.get(domain.id);
    if (cached !== undefined && cached.until > now()) return cached.figures;
    for (const [id, { until }] of cache) if (until <= now()) cache.delete(id);
    const expiry = { until: Number.POSITIVE_INFINITY };
    const figures = measure(domain, expiry);
    // The same object, because measure() sets `until` when it ends.
    const entry = Object.assign(expiry, { figures });
    cache.set(domain.id, entry);
    figures.catch(() => {
      if (cache.get(domain.id) === entry) cache.delete(domain.id);
    });
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
