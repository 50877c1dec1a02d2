import type { CallContext } from "../model/call-context.ts";
import type { StoreResult } from "../model/draft.ts";
import type { ServiceError } from "../model/errors.ts";
import type { StoreCommand } from "./store-command.ts";
import type { StorePipeline } from "./store-pipeline.ts";

export interface BatchStoreCommand {
  /** The memories to store, or the error of an invalid item. An id must occur only once in a domain. */
  readonly items: readonly (StoreCommand | ServiceError)[];
  /** Whether to store all items or none. */
  readonly atomic: boolean;
}

/**
 * Returns a result for each item, in order.
 *
 * @throws ServiceError with `atomic`, the error of the first item that fails.
 */
export type BatchStore = (
  command: BatchStoreCommand,
  call: CallContext,
) => Promise<(StoreResult | ServiceError)[]>;

/** Creates BatchStore, which stores memories in one transaction by the rules of Store. */
export function createBatchStore({ pipeline }: { readonly pipeline: StorePipeline }): BatchStore {
  return async ({ items, atomic }, call) =>
    await pipeline.store(items, { atomic, embeddingPath: (index) => `items[${index}].embedding` }, call);
}
