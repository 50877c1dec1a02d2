import { type DomainOpener, openAgain, orRefusal } from "../domains/domain-opener.ts";
import type { ContentEmbedder } from "../embed/content-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import type { DomainRecord, EmbeddingVersionRecord } from "../model/domain.ts";
import type {
  ConflictResolution,
  EmbeddedChunk,
  MemoryDraft,
  PreservedFields,
  StoreEntry,
  StoreResult,
} from "../model/draft.ts";
import { ServiceError } from "../model/errors.ts";
import { LIMITS } from "../model/limits.ts";
import type { Memory, MemoryFields } from "../model/memory.ts";
import type { Repository } from "../model/repository.ts";
import { structBytes, textBytes } from "../read/message-size.ts";
import { differingFromImport } from "./diff-memory.ts";
import { alreadyExists, type IfExists } from "./store.ts";

/** A memory as it was exported. Its expiry is a moment, if any. */
export interface ImportedRecord extends MemoryFields {
  readonly domain: string;
  readonly id: string;
  readonly preserved: PreservedFields;
  /** Made by the import's embedding version; undefined: its content is embedded here. */
  readonly chunks: readonly EmbeddedChunk[] | undefined;
}

/** A record that breaks a rule. */
export interface BadRecord {
  readonly id: string;
  readonly error: ServiceError;
}

export interface ImportCommand {
  readonly ifExists: IfExists;
  /** stop: at the first record that cannot be stored. */
  readonly onError: "stop" | "continue";
  /** What made the chunks of the records, whatever its number was where they come from. */
  readonly embeddingVersion: Omit<EmbeddingVersionRecord, "version"> | undefined;
  readonly records: AsyncIterable<ImportedRecord | BadRecord>;
}

export interface Rejection extends BadRecord {
  /** Position among the records, from 0. */
  readonly index: number;
}

/** How many records had which fate, and why the first of the rejected were. */
export interface ImportReport {
  created: number;
  replaced: number;
  unchanged: number;
  kept: number;
  duplicate: number;
  expired: number;
  rejected: number;
  readonly rejections: Rejection[];
  stopped: boolean;
}

/**
 * Stores records in steps, each in a transaction.
 *
 * @param onStep told what became of the records so far.
 * @throws ServiceError of what is not the fault of a record; what came before may be stored.
 */
export type Import = (
  command: ImportCommand,
  call: CallContext,
  onStep?: (soFar: Readonly<ImportReport>) => void,
) => Promise<ImportReport>;

/** What is stored in one transaction: a second at most, since the embedded engine has one connection. */
const STEP = { records: 500, bytes: 1024 * 1024, vectors: 100 } as const;

/** Steps that met others in the database, or lost a domain; so few tries that a defect does not loop. */
const MAX_TRIES = 5;

interface Item {
  readonly index: number;
  readonly id: string;
  /** The record, or what there is to say of it. */
  readonly what: ImportedRecord | ServiceError | "expired";
}

interface RecordItem extends Item {
  readonly what: ImportedRecord;
}

export function createImport(dependencies: {
  readonly repository: Repository;
  readonly contents: ContentEmbedder;
  readonly domains: DomainOpener;
  /** Told of a domain that has a new pending memory nobody is embedding. */
  readonly onPending: (domain: string) => void;
}): Import {
  const { repository, contents, domains, onPending } = dependencies;

  return async ({ ifExists, onError, embeddingVersion, records }, { signal }, onStep) => {
    const report: ImportReport = {
      created: 0,
      replaced: 0,
      unchanged: 0,
      kept: 0,
      duplicate: 0,
      expired: 0,
      rejected: 0,
      rejections: [],
      stopped: false,
    };
    const stops = onError === "stop";
    let index = 0;
    let step = createStep();
    for await (const record of records) {
      signal.throwIfAborted();
      const item = itemFrom(record, index++);
      if (!step.fits(item)) {
        await flush(step.items);
        step = createStep();
      }
      if (report.stopped) break;
      step.add(item);
      // What comes after it need not be read.
      if (stops && item.what instanceof ServiceError) break;
    }
    if (!report.stopped) await flush(step.items);
    return report;

    async function flush(items: readonly Item[]): Promise<void> {
      const results = new Map<Item, StoreResult | ServiceError>();
      await store(items, results);
      const pending = new Set<string>();
      for (const item of items) {
        const result = item.what === "expired" ? "expired" : results.get(item);
        if (result === undefined) throw new Error(`record ${item.index} has no result`);
        if (result === "expired") report.expired++;
        else if (result instanceof ServiceError) reject(item, result);
        else {
          report[result.outcome]++;
          if (result.memory.embedding.state === "pending") pending.add(result.memory.domain);
        }
        if (report.stopped) break;
      }
      onStep?.(report);
      for (const domain of pending) onPending(domain);
    }

    function reject({ index, id }: Item, error: ServiceError): void {
      report.rejected++;
      report.stopped = stops;
      if (report.rejections.length < LIMITS.importRejections) report.rejections.push({ index, id, error });
    }

    /** Says of each item what became of it; if the import stops, up to the first that failed. */
    async function store(
      items: readonly Item[],
      results: Map<Item, StoreResult | ServiceError>,
    ): Promise<void> {
      const opened = new Map<string, OpenedDomain | ServiceError>();
      const open = async (name: string, opening: Promise<DomainRecord>) => {
        opened.set(name, await orRefusal(opening.then(prepare)));
      };
      for (const { what } of items) {
        if (what === "expired" || what instanceof ServiceError || opened.has(what.domain)) continue;
        await open(what.domain, domains.open(what.domain, signal));
      }

      for (let tries = 1; ; ) {
        const left: RecordItem[] = [];
        for (const item of items) {
          if (item.what === "expired") continue;
          const known = results.get(item);
          const failure = known ?? (item.what instanceof ServiceError ? item.what : domainFailure(item.what));
          if (failure instanceof ServiceError) {
            results.set(item, failure);
            if (stops) break;
          } else if (isRecord(item)) left.push(item);
        }
        if (left.length === 0) return;
        const failed = new Map<RecordItem, ServiceError>();
        try {
          const entries = left.map((item) => entryOf(item, failed));
          const stored = await repository.storeMany(
            entries,
            { atomic: stops, embeddingsMs: Number.POSITIVE_INFINITY, leaseMs: 0 },
            signal,
          );
          for (const [position, result] of stored.entries()) {
            const item = left[position];
            if (item !== undefined) results.set(item, result);
          }
          return;
        } catch (error) {
          const first = left.find((item) => failed.get(item) === error);
          if (first !== undefined && error instanceof ServiceError) {
            // Nothing is stored: once more, up to this one.
            results.set(first, error);
            continue;
          }
          if (!(error instanceof ServiceError) || tries++ >= MAX_TRIES) throw error;
          const again = openAgain(domains, error, signal);
          if (again !== undefined) await open(again.name, again.opening);
        }
      }

      function domainFailure({ domain }: ImportedRecord): ServiceError | undefined {
        const found = opened.get(domain);
        return found instanceof ServiceError ? found : undefined;
      }

      function entryOf(item: RecordItem, failed: Map<RecordItem, ServiceError>): StoreEntry {
        const record = item.what;
        const domain = opened.get(record.domain);
        if (domain === undefined || domain instanceof ServiceError)
          throw new Error("a record without a domain");
        const draft = draftOf(record, domain);
        return {
          domain: record.domain,
          draft,
          resolveConflict: (current) => {
            try {
              return settlementOf(record, draft, current);
            } catch (error) {
              if (error instanceof ServiceError) failed.set(item, error);
              throw error;
            }
          },
        };
      }
    }

    function draftOf(record: ImportedRecord, { domain, takesOver }: OpenedDomain): MemoryDraft {
      const { embeddingVersion: version } = domain;
      const { chunks } = record;
      return takesOver && version !== undefined && chunks !== undefined
        ? { ...record, chunkCount: chunks.length, embedding: { version, chunks }, leaseMs: 0 }
        : {
            ...record,
            chunkCount: contents.of(domain).countChunks(record.content),
            embedding: undefined,
            leaseMs: 0,
          };
    }

    /** What a record does about the memory that has its id. */
    function settlementOf(record: ImportedRecord, draft: MemoryDraft, current: Memory): ConflictResolution {
      const differing = differingFromImport(current, record);
      if (differing.length === 0) return { outcome: "unchanged", draft: undefined };
      if (ifExists === "keep") return { outcome: "kept", draft: undefined };
      if (ifExists === "fail") throw alreadyExists(record.domain, record.id, differing);
      const sameText = !differing.includes("content") && current.embedding.state === "ready";
      return {
        outcome: "replaced",
        draft:
          sameText && draft.embedding === undefined
            ? { ...draft, embedding: "keep", chunkCount: current.chunkCount }
            : draft,
      };
    }

    async function prepare(found: DomainRecord): Promise<OpenedDomain> {
      if (embeddingVersion === undefined) return { domain: found, takesOver: false };
      const domain = found.embeddingVersion === undefined ? await contents.of(found).align(found) : found;
      if (domain.embeddingVersion === undefined) return { domain, takesOver: false };
      const [used] = await repository.readEmbeddingVersions([domain.embeddingVersion], signal);
      const takesOver =
        used !== undefined &&
        used.model === embeddingVersion.model &&
        used.digest === embeddingVersion.digest &&
        used.dimensions === embeddingVersion.dimensions &&
        used.profile === embeddingVersion.profile &&
        used.chunker === embeddingVersion.chunker;
      return { domain, takesOver };
    }
  };
}

interface OpenedDomain {
  readonly domain: DomainRecord;
  /** Whether embeddings of the import are of the version that the domain uses. */
  readonly takesOver: boolean;
}

/** Collects what one transaction stores. */
function createStep() {
  const items: Item[] = [];
  const ids = new Set<string>();
  let bytes = 0;
  let vectors = 0;
  return {
    items,
    /** One that is alone always fits. Of two with the same id the later one has to find the first. */
    fits({ what }: Item): boolean {
      if (items.length >= STEP.records || bytes >= STEP.bytes || vectors >= STEP.vectors) return false;
      return what === "expired" || what instanceof ServiceError || !ids.has(keyOf(what));
    },
    add(item: Item): void {
      items.push(item);
      if (!isRecord(item)) return;
      ids.add(keyOf(item.what));
      bytes += recordBytes(item.what);
      vectors += item.what.chunks?.length ?? 0;
    },
  };
}

/** Of any of its texts: a source may be as long as a content. */
function recordBytes({ content, source, tags, metadata }: ImportedRecord): number {
  return [content, source, ...tags].reduce((sum, text) => sum + textBytes(text), structBytes(metadata));
}

function itemFrom(record: ImportedRecord | BadRecord, index: number): Item {
  const { id } = record;
  if ("error" in record) return { index, id, what: record.error };
  const { expiry } = record;
  const expired = expiry.kind === "at" && expiry.time <= BigInt(Date.now()) * 1_000n;
  return { index, id, what: expired ? "expired" : record };
}

function isRecord(item: Item): item is RecordItem {
  return item.what !== "expired" && !(item.what instanceof ServiceError);
}

/** No name of a domain has a space. */
function keyOf({ domain, id }: ImportedRecord): string {
  return `${domain} ${id}`;
}
