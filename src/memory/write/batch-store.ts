import { v7 as uuidv7 } from "uuid";
import { type DomainOpener, openAgain, orRefusal } from "../domains/domain-opener.ts";
import {
  type EmbeddingAttempt,
  LATE_EMBEDDING_LEASE_MS,
  type TimelyEmbedder,
} from "../embed/inline-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import { assertCompatible } from "../model/caller-embedding.ts";
import type { DomainRecord } from "../model/domain.ts";
import type { StoreEntry, StoreResult } from "../model/draft.ts";
import { ServiceError } from "../model/errors.ts";
import type { Repository } from "../model/repository.ts";
import { type StoreCommand, settlementOf } from "./store.ts";

export interface BatchStoreCommand {
  /** What to store, or why that cannot be; no id occurs twice in one domain. */
  readonly items: readonly (StoreCommand | ServiceError)[];
  /** All or nothing. */
  readonly atomic: boolean;
}

/**
 * Returns what became of each item, in order.
 *
 * @throws ServiceError with `atomic`, the error of the first item that fails.
 */
export type BatchStore = (
  command: BatchStoreCommand,
  call: CallContext,
) => Promise<(StoreResult | ServiceError)[]>;

/** Batches that met in the database, or lost a domain; so few tries that a defect does not loop. */
const MAX_TRIES = 5;

interface Item {
  readonly index: number;
  readonly id: string;
  readonly command: StoreCommand;
  readonly attempt: EmbeddingAttempt;
}

/** Stores many memories in one transaction, by the rules of Store. */
export function createBatchStore(dependencies: {
  readonly repository: Repository;
  readonly domains: DomainOpener;
  readonly embeddings: TimelyEmbedder;
  /** How long embeddings are waited for, and then how long they are written. */
  readonly embedBudgetMs: number;
}): BatchStore {
  const { repository, domains, embeddings } = dependencies;

  function follow(
    result: StoreResult | ServiceError,
    attempt: EmbeddingAttempt,
    entry: StoreEntry | undefined,
  ): void {
    if (result instanceof ServiceError) return;
    if (result.outcome !== "created" && result.outcome !== "replaced") return;
    const made = entry?.draft.embedding;
    // Of a pending memory: there was no time left to write it.
    const late = made === undefined || made === "keep" ? attempt : { running: Promise.resolve(made) };
    embeddings.follow(result.memory, late);
  }

  return async ({ items, atomic }, call) => {
    const { signal } = call;
    const results = new Map<number, StoreResult | ServiceError>();
    const fail = (index: number, error: ServiceError) => {
      if (atomic) throw errorOfItem(index, error);
      results.set(index, error);
    };
    for (const [index, item] of items.entries()) {
      if (item instanceof ServiceError) fail(index, item);
    }

    /** Items whose own embedding their domain does not use. */
    const refused = new Set<number>();
    const refuse = async (index: number, check: () => Promise<void> | void) => {
      try {
        await check();
      } catch (error) {
        if (atomic || !(error instanceof ServiceError)) throw error;
        refused.add(index);
        results.set(index, error);
      }
    };
    const fieldOf = (index: number) => `items[${index}].embedding`;
    for (const [index, item] of items.entries()) {
      if (item instanceof ServiceError || item.embedding === undefined) continue;
      const { domain, embedding } = item;
      await refuse(index, () => embeddings.assertCompatibleIn(domain, embedding, fieldOf(index), signal));
    }

    /** Domains by name, or why they cannot be written to. */
    const opened = new Map<string, DomainRecord | ServiceError>();
    const open = async (name: string, opening: Promise<DomainRecord>) => {
      opened.set(name, await orRefusal(opening));
    };
    for (const [index, item] of items.entries()) {
      if (item instanceof ServiceError || refused.has(index) || opened.has(item.domain)) continue;
      await open(item.domain, domains.open(item.domain, signal));
    }
    /** The domain of an item; undefined if it cannot be written to, which is the item's result then. */
    const domainOf = (index: number, command: StoreCommand): DomainRecord | undefined => {
      const domain = opened.get(command.domain);
      if (!(domain instanceof ServiceError)) return domain;
      fail(index, domain);
      return undefined;
    };

    /** Domains and versions for which what is known of the domain has been seen to be of now. */
    const fitted = new Set<string>();
    for (const [index, item] of items.entries()) {
      if (item instanceof ServiceError || item.embedding === undefined || refused.has(index)) continue;
      const own = item.embedding;
      const known = domainOf(index, item);
      if (known === undefined) continue;
      const key = `${known.name} ${own.version}`;
      if (!fitted.has(key)) {
        const attempt = await embeddings.attempt(item.content, own, known, call);
        opened.set(known.name, await embeddings.fit(known, attempt, signal));
        fitted.add(key);
      }
      await refuse(index, () => assertCompatible(own, domainOf(index, item) ?? known, fieldOf(index)));
    }

    const attempts = items.map(async (command, index): Promise<Item[]> => {
      if (command instanceof ServiceError || refused.has(index)) return [];
      const domain = domainOf(index, command);
      if (domain === undefined) return [];
      const how = command.embedding ?? command.embeddingMode;
      const attempt = await embeddings.attempt(command.content, how, domain, call);
      return [{ index, id: command.id ?? `mem_${uuidv7()}`, command, attempt }];
    });
    let left = (await Promise.all(attempts)).flat();
    // One of each domain tells whether what is known of that is too old.
    const embedded = left.filter(({ attempt }) => attempt.done !== undefined && attempt.own === undefined);
    for (const { index, command, attempt } of new Map(
      embedded.map((item) => [item.command.domain, item]),
    ).values()) {
      const domain = domainOf(index, command);
      if (domain !== undefined) opened.set(domain.name, await embeddings.fit(domain, attempt, signal));
    }
    signal.throwIfAborted();

    for (let tries = 1; left.length > 0; tries++) {
      try {
        const entries = left.map((item) => entryOf(item, opened.get(item.command.domain)));
        const stored = await repository.storeMany(
          entries,
          { atomic, embeddingsMs: dependencies.embedBudgetMs, leaseMs: LATE_EMBEDDING_LEASE_MS },
          signal,
        );
        for (const [position, { index, attempt }] of left.entries()) {
          const result = stored[position];
          if (result === undefined) continue;
          results.set(index, result);
          follow(result, attempt, entries[position]);
        }
        break;
      } catch (error) {
        if (!(error instanceof ServiceError) || tries >= MAX_TRIES) throw error;
        const again = openAgain(domains, error, signal);
        if (again !== undefined) await open(again.name, again.opening);
        left = left.filter(({ index, command }) => domainOf(index, command) !== undefined);
      }
    }

    return items.map((_, index) => {
      const result = results.get(index);
      if (result === undefined) throw new Error(`item ${index} has no result`);
      return result;
    });

    function entryOf(item: Item, domain: DomainRecord | ServiceError | undefined): StoreEntry {
      const { index, id, command, attempt } = item;
      if (domain === undefined || domain instanceof ServiceError) throw new Error("an item without a domain");
      const draft = { ...command, id, ...embeddings.describe(command.content, attempt, domain) };
      return {
        domain: command.domain,
        draft,
        resolveConflict: (current) => {
          try {
            return settlementOf(command, draft, current);
          } catch (error) {
            throw atomic && error instanceof ServiceError ? errorOfItem(index, error) : error;
          }
        },
      };
    }
  };
}

/** The error of a whole batch, which says whose fault it is. */
function errorOfItem(index: number, error: ServiceError): ServiceError {
  const { reason, message, metadata, violations, retryAfterMs, cause } = error;
  return new ServiceError(reason, `items[${index}]: ${message}`, {
    metadata,
    violations,
    cause,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}
