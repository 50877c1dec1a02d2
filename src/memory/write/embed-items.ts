import { v7 as uuidv7 } from "uuid";
import type { ResolvedDomains } from "../domains/domain-resolver.ts";
import type { InlineEmbedder } from "../embed/inline-embedder.ts";
import { assertCompatible, type CallerEmbedding } from "../model/caller-embedding.ts";
import type { DomainRecord } from "../model/domain.ts";
import {
  type Batch,
  type EmbeddedItem,
  keepAccepted,
  resolvedDomain,
  type StoreItem,
  writable,
} from "./store-batch.ts";

/** The embedding stage of the store pipeline. */
export interface ItemEmbedder {
  /** Refuses caller-supplied embeddings that a domain would not use, before the domain is created for them. */
  checkBeforeCreation(items: readonly StoreItem[], batch: Batch): Promise<StoreItem[]>;
  /** Starts all embeddings, and waits until each has ended or used up the budget. */
  embed(items: readonly StoreItem[], resolved: ResolvedDomains, batch: Batch): Promise<EmbeddedItem[]>;
}

export function createItemEmbedder(embeddings: InlineEmbedder): ItemEmbedder {
  /**
   * Checks caller-supplied embeddings against their domains, after reading again each domain whose record may be old.
   */
  async function checkEmbeddings(
    items: readonly StoreItem[],
    resolved: ResolvedDomains,
    batch: Batch,
  ): Promise<StoreItem[]> {
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

  return {
    async checkBeforeCreation(items: readonly StoreItem[], batch: Batch): Promise<StoreItem[]> {
      return await keepAccepted(items, batch, async ({ index, command: { domain, embedding } }) => {
        if (embedding === undefined) return;
        await embeddings.assertAcceptable(domain, embedding, batch.embeddingPath(index), batch.call.signal);
      });
    },

    async embed(
      items: readonly StoreItem[],
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
    },
  };
}
