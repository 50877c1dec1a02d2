import { untilAborted } from "../../util/wait.ts";
import type { DomainFigures, DomainRecord, EmbeddingVersionRecord } from "../model/domain.ts";
import type { DomainStore, EmbeddingVersionStore } from "../model/domain-store.ts";
import { createFiguresReader } from "./domain-figures.ts";

/** A domain with its embedding version and figures. */
export interface DomainReport {
  readonly domain: DomainRecord;
  /** The embedding version that searches use; undefined until the first embedding. */
  readonly embeddingVersion: EmbeddingVersionRecord | undefined;
  readonly figures: DomainFigures;
}

/** Reads reports of domains. Figures may be seconds old. */
export interface DomainReports {
  of(domain: DomainRecord, signal: AbortSignal): Promise<DomainReport>;
  /** Returns the reports of a page of domains, in order. Domains deleted in the meantime are missing. */
  ofPage(domains: readonly DomainRecord[], signal: AbortSignal): Promise<DomainReport[]>;
  /** Discards the cached figures of a domain that has changed. */
  discard(domain: DomainRecord): void;
}

export function createDomainReports(repository: DomainStore & EmbeddingVersionStore): DomainReports {
  const figures = createFiguresReader(repository);

  async function versionsOf(domains: readonly DomainRecord[], signal: AbortSignal) {
    const numbers = new Set(domains.flatMap(({ embeddingVersion }) => embeddingVersion ?? []));
    const versions = numbers.size === 0 ? [] : await repository.readEmbeddingVersions([...numbers], signal);
    return new Map(versions.map((version) => [version.version, version]));
  }

  return {
    async of(domain, signal) {
      const [versions, counted] = await Promise.all([
        versionsOf([domain], signal),
        untilAborted(figures.read(domain), signal),
      ]);
      return { domain, embeddingVersion: versions.get(domain.embeddingVersion ?? 0), figures: counted };
    },

    async ofPage(domains, signal) {
      const [versions, counted] = await Promise.all([
        versionsOf(domains, signal),
        figures.readAll(domains, signal),
      ]);
      return domains.flatMap((domain) => {
        const figures = counted.get(domain.id);
        if (figures === undefined) return [];
        return { domain, embeddingVersion: versions.get(domain.embeddingVersion ?? 0), figures };
      });
    },

    discard: (domain) => figures.discard(domain),
  };
}
