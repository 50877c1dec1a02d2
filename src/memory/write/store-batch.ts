import type { ResolvedDomains } from "../domains/domain-resolver.ts";
import type { EmbeddingAttempt } from "../embed/inline-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import type { DomainRecord } from "../model/domain.ts";
import type { StoreResult } from "../model/draft.ts";
import { ServiceError } from "../model/errors.ts";
import type { StoreCommand } from "./store-command.ts";

export interface StoreOptions {
  /** Whether to store all items or none. */
  readonly atomic: boolean;
  /** Returns the path of an item's embedding field, for errors. */
  readonly embeddingPath: (index: number) => string;
}

export type StoreItemResult = StoreResult | ServiceError;

/** An item that can still be stored. */
export interface StoreItem {
  readonly index: number;
  readonly command: StoreCommand;
}

export interface EmbeddedItem extends StoreItem {
  readonly id: string;
  readonly attempt: EmbeddingAttempt;
}

/** The state of one call. */
export interface Batch extends StoreOptions {
  readonly call: CallContext;
  readonly results: Map<number, StoreItemResult>;
}

/** Returns the items whose domain can be written to, and fails the others. */
export function writable<T extends StoreItem>(
  items: readonly T[],
  resolved: ResolvedDomains,
  batch: Batch,
): T[] {
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
export async function keepAccepted(
  items: readonly StoreItem[],
  { atomic, results }: Batch,
  check: (item: StoreItem) => Promise<void>,
): Promise<StoreItem[]> {
  const accepted: StoreItem[] = [];
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

export function fail(index: number, error: ServiceError, { atomic, results }: Batch): void {
  if (atomic) throw errorOfItem(index, error);
  results.set(index, error);
}

export function resolvedDomain(name: string, resolved: ResolvedDomains): DomainRecord {
  const domain = resolved.get(name);
  if (domain === undefined || domain instanceof ServiceError) throw new Error("an item without a domain");
  return domain;
}

/** Returns the error of an atomic batch, which names the item that failed. */
export function errorOfItem(index: number, error: ServiceError): ServiceError {
  const { reason, message, metadata, violations, retryAfterMs, cause } = error;
  return new ServiceError(reason, `items[${index}]: ${message}`, {
    metadata,
    violations,
    cause,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}
