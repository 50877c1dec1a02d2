import { v7 as uuidv7 } from "uuid";
import type { DomainResolver, ResolvedDomains } from "../domains/domain-resolver.ts";
import {
  type EmbeddingAttempt,
  type InlineEmbedder,
  LATE_EMBEDDING_LEASE_MS,
} from "../embed/inline-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import { assertCompatible, type CallerEmbedding } from "../model/caller-embedding.ts";
import type { DomainRecord } from "../model/domain.ts";
import type { StoreEntry, StoreResult } from "../model/draft.ts";
import { ServiceError } from "../model/errors.ts";
import type { MemoryStore } from "../model/memory-store.ts";
import { resolveStoreConflict } from "./conflict-resolution.ts";
import type { StoreCommand } from "./store-command.ts";
import { writeEntries } from "./write-entries.ts";

export interface StoreOptions {
  /** Whether to store all items or none. */
  readonly atomic: boolean;
  /** Returns the path of an item's embedding field, for errors. */
  readonly embeddingPath: (index: number) => string;
}

/** Stores memories: Store is a batch of one. */
export interface StorePipeline {
  /**
   * Stores items in one transaction: checks caller-supplied embeddings, resolves or creates the domains, waits for
   * embeddings within the budget, and writes. Returns a result for each item, in order.
   *
   * @throws ServiceError with `atomic`, the error of the first item that fails.
   */
  store(
    items: readonly (StoreCommand | ServiceError)[],
    options: StoreOptions,
    call: CallContext,
  ): Promise<StoreItemResult[]>;
}

type StoreItemResult = StoreResult | ServiceError;

/** An item that can still be stored. */
interface Item {
  readonly index: number;
  readonly command: StoreCommand;
}

interface EmbeddedItem extends Item {
  readonly id: string;
  readonly attempt: EmbeddingAttempt;
}

/** The state of one call. */
interface Batch extends StoreOptions {
  readonly call: CallContext;
  readonly results: Map<number, StoreItemResult>;
}

export function createStorePipeline(dependencies: {
  readonly repository: MemoryStore;
  readonly domains: DomainResolver;
  readonly embeddings: InlineEmbedder;
  /** Maximum time to wait for embeddings, and then to write them. */
  readonly embedBudgetMs: number;
}): StorePipeline {
  const { repository, domains, embeddings, embedBudgetMs } = dependencies;

  /** Refuses caller-supplied embeddings that a domain would not use, before the domain is created for them. */
  async function checkBeforeCreation(items: readonly Item[], batch: Batch): Promise<Item[]> {
    return await keepAccepted(items, batch, async ({ index, command: { domain, embedding } }) => {
      if (embedding === undefined) return;
      await embeddings.assertAcceptable(domain, embedding, batch.embeddingPath(index), batch.call.signal);
    });
  }

  /**
   * Checks caller-supplied embeddings against their domains, after reading again each domain whose record may be old.
   */
  async function checkEmbeddings(
    items: readonly Item[],
    resolved: ResolvedDomains,
    batch: Batch,
  ): Promise<Item[]> {
    const refreshed = new Set<string>();
    for (const { domain, embedding } of items.map(({ command }) => command)) {
      if (embedding === undefined || refreshed.has(`${domain} ${embedding.version}`)) continue;
      await refresh(resolvedDomain(domain, resolved), embedding, resolved, batch);
      refreshed.add(`${domain} ${embedding.version}`);
    }
    return await keepAccepted(items, batch, async ({ index, command: { domain, embedding } }) => {
      if (embedding === undefined) return;
      assertCompatible(embedding, resolvedDomain(domain, resolved), batch.embeddingPath(index));
    });
  }

  async function refresh(
    domain: DomainRecord,
    embedding: Pick<CallerEmbedding, "version"> | undefined,
    resolved: ResolvedDomains,
    { call }: Batch,
  ): Promise<void> {
    resolved.set(domain.name, await embeddings.refreshDomain(domain, embedding?.version, call.signal));
  }

  /** Starts all embeddings, and waits until each has ended or used up the budget. */
  async function embed(
    items: readonly Item[],
    resolved: ResolvedDomains,
    batch: Batch,
  ): Promise<EmbeddedItem[]> {
    const accepted = await checkEmbeddings(writable(items, resolved, batch), resolved, batch);
    const embedded = await Promise.all(
      accepted.map(async ({ index, command }): Promise<EmbeddedItem> => {
        const source = command.embedding ?? command.embeddingMode;
        const attempt = await embeddings.start(
          command.content,
          source,
          resolvedDomain(command.domain, resolved),
          batch.call,
        );
        return { index, command, attempt, id: command.id ?? `mem_${uuidv7()}` };
      }),
    );
    // One finished embedding of each domain shows whether its record is too old.
    const finished = embedded.filter(
      ({ attempt }) => attempt.done !== undefined && attempt.supplied === undefined,
    );
    const sample = new Map(finished.map((item) => [item.command.domain, item]));
    for (const { command, attempt } of sample.values()) {
      await refresh(resolvedDomain(command.domain, resolved), attempt.done, resolved, batch);
    }
    batch.call.signal.throwIfAborted();
    return embedded;
  }

  async function write(
    items: readonly EmbeddedItem[],
    resolved: ResolvedDomains,
    batch: Batch,
  ): Promise<void> {
    const ready = writable(items, resolved, batch);
    const entries = ready.map((item) => entryOf(item, resolvedDomain(item.command.domain, resolved), batch));
    const options = {
      atomic: batch.atomic,
      embeddingsMs: embedBudgetMs,
      leaseMs: LATE_EMBEDDING_LEASE_MS,
    };
    const written = await writeEntries(repository, entries, options, batch.call.signal);
    for (const [position, { index, attempt }] of ready.entries()) {
      const result = written[position];
      if (result === undefined) continue;
      batch.results.set(index, result);
      const isWritten =
        !(result instanceof ServiceError) && (result.outcome === "created" || result.outcome === "replaced");
      if (isWritten) completeLater(result, attempt, entries[position]);
    }
  }

  function completeLater(
    { memory }: StoreResult,
    attempt: EmbeddingAttempt,
    entry: StoreEntry | undefined,
  ): void {
    const computed = entry?.draft.embedding;
    // A pending memory whose embedding is complete: there was no time left to write it.
    const isUnwritten = computed !== undefined && computed !== "keep";
    embeddings.completeLater(memory, isUnwritten ? { running: Promise.resolve(computed) } : attempt);
  }

  function entryOf(item: EmbeddedItem, domain: DomainRecord, { atomic }: Batch): StoreEntry {
    const { index, id, command, attempt } = item;
    const draft = { ...command, id, ...embeddings.toDraft(command.content, attempt, domain) };
    return {
      domain: command.domain,
      draft,
      resolveConflict(current) {
        try {
          return resolveStoreConflict(command, draft, current);
        } catch (error) {
          throw atomic && error instanceof ServiceError ? errorOfItem(index, error) : error;
        }
      },
    };
  }

  return {
    async store(items, options, call) {
      const batch: Batch = { ...options, call, results: new Map() };
      const valid = items.flatMap((command, index): Item[] => {
        if (!(command instanceof ServiceError)) return [{ index, command }];
        fail(index, command, batch);
        return [];
      });
      const accepted = await checkBeforeCreation(valid, batch);
      const names = accepted.map(({ command }) => command.domain);
      let embedded: readonly EmbeddedItem[] | undefined;
      await domains.withDomains(
        names,
        async (resolved) => {
          embedded ??= await embed(accepted, resolved, batch);
          await write(embedded, resolved, batch);
        },
        call.signal,
      );
      return items.map((_, index) => {
        const result = batch.results.get(index);
        if (result === undefined) throw new Error(`item ${index} has no result`);
        return result;
      });
    },
  };
}

/** Returns the items whose domain can be written to, and fails the others. */
function writable<T extends Item>(items: readonly T[], resolved: ResolvedDomains, batch: Batch): T[] {
  return items.filter(({ index, command }) => {
    const domain = resolved.get(command.domain);
    if (!(domain instanceof ServiceError)) return true;
    fail(index, domain, batch);
    return false;
  });
}

/**
 * Returns the items that pass the check. The error of a check is the item's result, or with `atomic` fails the call.
 */
async function keepAccepted(
  items: readonly Item[],
  { atomic, results }: Batch,
  check: (item: Item) => Promise<void>,
): Promise<Item[]> {
  const accepted: Item[] = [];
  for (const item of items) {
    try {
      await check(item);
      accepted.push(item);
    } catch (error) {
      if (atomic || !(error instanceof ServiceError)) throw error;
      results.set(item.index, error);
    }
  }
  return accepted;
}

function fail(index: number, error: ServiceError, { atomic, results }: Batch): void {
  if (atomic) throw errorOfItem(index, error);
  results.set(index, error);
}

function resolvedDomain(name: string, resolved: ResolvedDomains): DomainRecord {
  const domain = resolved.get(name);
  if (domain === undefined || domain instanceof ServiceError) throw new Error("an item without a domain");
  return domain;
}

/** Returns the error of an atomic batch, which names the item that failed. */
function errorOfItem(index: number, error: ServiceError): ServiceError {
  const { reason, message, metadata, violations, retryAfterMs, cause } = error;
  return new ServiceError(reason, `items[${index}]: ${message}`, {
    metadata,
    violations,
    cause,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}
