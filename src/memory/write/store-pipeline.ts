import type { DomainResolver, ResolvedDomains } from "../domains/domain-resolver.ts";
import {
  type EmbeddingAttempt,
  type InlineEmbedder,
  LATE_EMBEDDING_LEASE_MS,
} from "../embed/inline-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import type { DomainRecord } from "../model/domain.ts";
import type { StoreEntry, StoreResult } from "../model/draft.ts";
import { ServiceError } from "../model/errors.ts";
import type { MemoryStore } from "../model/memory-store.ts";
import { resolveStoreConflict } from "./conflict-resolution.ts";
import { createItemEmbedder } from "./embed-items.ts";
import {
  type Batch,
  type EmbeddedItem,
  errorOfItem,
  fail,
  resolvedDomain,
  type StoreItem,
  type StoreItemResult,
  type StoreOptions,
  writable,
} from "./store-batch.ts";
import type { StoreCommand } from "./store-command.ts";
import { writeEntries } from "./write-entries.ts";

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

export function createStorePipeline(dependencies: {
  readonly repository: MemoryStore;
  readonly domains: DomainResolver;
  readonly embeddings: InlineEmbedder;
  /** Maximum time to wait for embeddings, and then to write them. */
  readonly embedBudgetMs: number;
}): StorePipeline {
  const { repository, domains, embeddings, embedBudgetMs } = dependencies;
  const { checkBeforeCreation, embed } = createItemEmbedder(embeddings);

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
      const valid = items.flatMap((command, index): StoreItem[] => {
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
