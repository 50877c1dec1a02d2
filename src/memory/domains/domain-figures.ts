import type { DomainFigures, DomainRecord } from "../model/domain.ts";
import { ServiceError } from "../model/errors.ts";
import type { Repository } from "../model/repository.ts";

/** How long figures are remembered at least. */
const REMEMBERED_MS = 5_000;
/** And how many times as long as counting took: it never takes more than a twentieth of a connection. */
const TIMES_ITS_COST = 20;
/** Domains that are counted at once: a page of them must not take every connection of the pool. */
const AT_ONCE = 2;

/** Counts domains on demand. */
export interface FiguresReader {
  /** One count for all who ask meanwhile; it goes on for others if a caller leaves. */
  read(domain: DomainRecord): Promise<DomainFigures>;
  /** For a page; a domain dropped meanwhile is missing. */
  readAll(domains: readonly DomainRecord[], signal: AbortSignal): Promise<Map<bigint, DomainFigures>>;
  /** Forgets what is known of the domain: it has changed. */
  forget(domain: DomainRecord): void;
}

export function createFiguresReader(
  repository: Pick<Repository, "measureDomain">,
  now: () => number = () => performance.now(),
): FiguresReader {
  // By id: a domain made again is another one.
  const known = new Map<bigint, { readonly figures: Promise<DomainFigures>; until: number }>();

  async function measure(domain: DomainRecord, entry: { until: number }): Promise<DomainFigures> {
    const start = now();
    try {
      return await repository.measureDomain(domain);
    } finally {
      const end = now();
      entry.until = end + Math.max(REMEMBERED_MS, (end - start) * TIMES_ITS_COST);
    }
  }

  function read(domain: DomainRecord): Promise<DomainFigures> {
    const entry = known.get(domain.id);
    if (entry !== undefined && entry.until > now()) return entry.figures;
    for (const [id, { until }] of known) if (until <= now()) known.delete(id);
    const next = { until: Number.POSITIVE_INFINITY };
    const figures = measure(domain, next);
    // The same object: its end is known once the figures are.
    const remembered = Object.assign(next, { figures });
    known.set(domain.id, remembered);
    figures.catch(() => {
      if (known.get(domain.id) === remembered) known.delete(domain.id);
    });
    return figures;
  }

  return {
    read,

    async readAll(domains, signal) {
      const found = new Map<bigint, DomainFigures>();
      const waiting = domains.values();
      await Promise.all(
        Array.from({ length: AT_ONCE }, async () => {
          for (const domain of waiting) {
            signal.throwIfAborted();
            const figures = await read(domain).catch(ignoreMissing);
            if (figures !== undefined) found.set(domain.id, figures);
          }
        }),
      );
      return found;
    },

    forget(domain) {
      known.delete(domain.id);
    },
  };
}

function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND")) throw error;
}
