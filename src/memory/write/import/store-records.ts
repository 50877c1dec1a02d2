import type { DomainResolver, ResolvedDomains } from "../../domains/domain-resolver.ts";
import type { ContentEmbedder } from "../../embed/content-embedder.ts";
import type { DomainRecord, EmbeddingVersionRecord } from "../../model/domain.ts";
import type { EmbeddingVersionStore } from "../../model/domain-store.ts";
import type { MemoryDraft, StoreEntry, StoreResult } from "../../model/draft.ts";
import { ServiceError } from "../../model/errors.ts";
import type { MemoryStore } from "../../model/memory-store.ts";
import { resolveImportConflict } from "../conflict-resolution.ts";
import type { IfExists } from "../store-command.ts";
import { writeEntries } from "../write-entries.ts";
import type { ImportedRecord } from "./import-record.ts";
import { type ImportItem, isRecordItem, type RecordItem } from "./import-step.ts";

export interface RecordOptions {
  readonly ifExists: IfExists;
  /** Whether to stop at the first record that cannot be stored. */
  readonly stopOnError: boolean;
  /** The embedding version of the records' chunks; undefined if they have none. */
  readonly embeddingVersion: Omit<EmbeddingVersionRecord, "version"> | undefined;
}

export type RecordResults = ReadonlyMap<ImportItem, StoreResult | ServiceError>;

/**
 * Stores the items of one import step in one transaction, by the rules of BatchStore. Returns a result for each item
 * that is not expired; with `stopOnError`, up to and including the first item that failed.
 */
export type StoreRecords = (
  items: readonly ImportItem[],
  options: RecordOptions,
  signal: AbortSignal,
) => Promise<RecordResults>;

/** A domain, and whether it uses the embedding version of the imported chunks. */
interface TargetDomain {
  readonly domain: DomainRecord;
  readonly acceptsChunks: boolean;
}

export function createStoreRecords(dependencies: {
  readonly repository: MemoryStore & EmbeddingVersionStore;
  readonly contents: ContentEmbedder;
  readonly domains: DomainResolver;
}): StoreRecords {
  const { repository, contents, domains } = dependencies;

  async function targetOf(
    found: DomainRecord,
    { embeddingVersion }: RecordOptions,
    signal: AbortSignal,
  ): Promise<TargetDomain> {
    if (embeddingVersion === undefined) return { domain: found, acceptsChunks: false };
    const domain = found.embeddingVersion === undefined ? await contents.of(found).align(found) : found;
    if (domain.embeddingVersion === undefined) return { domain, acceptsChunks: false };
    const [used] = await repository.readEmbeddingVersions([domain.embeddingVersion], signal);
    return { domain, acceptsChunks: used !== undefined && isSameVersion(used, embeddingVersion) };
  }

  function draftOf(record: ImportedRecord, { domain, acceptsChunks }: TargetDomain): MemoryDraft {
    const { embeddingVersion: version } = domain;
    const { chunks } = record;
    return acceptsChunks && version !== undefined && chunks !== undefined
      ? { ...record, chunkCount: chunks.length, embedding: { version, chunks }, leaseMs: 0 }
      : {
          ...record,
          chunkCount: contents.of(domain).countChunks(record.content),
          embedding: undefined,
          leaseMs: 0,
        };
  }

  return async (items, options, signal) => {
    const { ifExists, stopOnError } = options;
    const results = new Map<ImportItem, StoreResult | ServiceError>();
    /** By record of the domain, so that a domain that was read again is checked again. */
    const targets = new Map<DomainRecord, TargetDomain>();

    async function entryOf(
      item: RecordItem,
      resolved: ResolvedDomains,
      failed: Map<unknown, ImportItem>,
    ): Promise<StoreEntry> {
      const record = item.content;
      const found = resolved.get(record.domain);
      if (found === undefined || found instanceof ServiceError) throw new Error("a record without a domain");
      const target = targets.get(found) ?? (await targetOf(found, options, signal));
      targets.set(found, target);
      const draft = draftOf(record, target);
      return {
        domain: record.domain,
        draft,
        resolveConflict(current) {
          try {
            return resolveImportConflict(record, ifExists, draft, current);
          } catch (error) {
            failed.set(error, item);
            throw error;
          }
        },
      };
    }

    async function write(resolved: ResolvedDomains): Promise<void> {
      for (;;) {
        const left = writableItems(items, resolved, results, stopOnError);
        const failed = new Map<unknown, ImportItem>();
        const entries: StoreEntry[] = [];
        for (const item of left) entries.push(await entryOf(item, resolved, failed));
        try {
          const options = { atomic: stopOnError, embeddingsMs: Number.POSITIVE_INFINITY, leaseMs: 0 };
          const stored = await writeEntries(repository, entries, options, signal);
          for (const [position, result] of stored.entries()) {
            const item = left[position];
            if (item !== undefined) results.set(item, result);
          }
          return;
        } catch (error) {
          const item = failed.get(error);
          if (item === undefined || !(error instanceof ServiceError)) throw error;
          // Nothing was stored. The next round stores the records before this one.
          results.set(item, error);
        }
      }
    }

    const names = items.flatMap((item) => (isRecordItem(item) ? [item.content.domain] : []));
    await domains.withDomains(names, write, signal);
    return results;
  };
}

/** Returns the records to write, and sets the results of the others. With `stopOnError`, ends at the first failure. */
function writableItems(
  items: readonly ImportItem[],
  resolved: ResolvedDomains,
  results: Map<ImportItem, StoreResult | ServiceError>,
  stopOnError: boolean,
): RecordItem[] {
  const left: RecordItem[] = [];
  for (const item of items) {
    if (item.content === "expired") continue;
    const failure = results.get(item) ?? failureOf(item, resolved);
    if (failure instanceof ServiceError) {
      results.set(item, failure);
      if (stopOnError) break;
    } else if (isRecordItem(item)) left.push(item);
  }
  return left;
}

function failureOf({ content }: ImportItem, resolved: ResolvedDomains): ServiceError | undefined {
  if (content instanceof ServiceError) return content;
  const domain = content === "expired" ? undefined : resolved.get(content.domain);
  return domain instanceof ServiceError ? domain : undefined;
}

function isSameVersion(
  used: EmbeddingVersionRecord,
  imported: Omit<EmbeddingVersionRecord, "version">,
): boolean {
  return (
    used.model === imported.model &&
    used.digest === imported.digest &&
    used.dimensions === imported.dimensions &&
    used.profile === imported.profile &&
    used.chunker === imported.chunker
  );
}
