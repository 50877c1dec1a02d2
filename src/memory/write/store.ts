import type { CallContext } from "../model/call-context.ts";
import type { StoreResult } from "../model/draft.ts";
import { ServiceError } from "../model/errors.ts";
import type { StoreCommand } from "./store-command.ts";
import type { StorePipeline } from "./store-pipeline.ts";

/** @throws ServiceError MEMORY_ALREADY_EXISTS, DOMAIN_NOT_FOUND, DOMAIN_LIMIT_REACHED, INVALID_ARGUMENT */
export type Store = (command: StoreCommand, call: CallContext) => Promise<StoreResult>;

/** Creates Store, which stores one memory and creates its domain if that is missing. */
export function createStore({ pipeline }: { readonly pipeline: StorePipeline }): Store {
  return async (command, call) => {
    const options = { atomic: false, embeddingPath: () => "embedding" };
    const [result] = await pipeline.store([command], options, call);
    if (result === undefined) throw new Error("the memory has no result");
    if (result instanceof ServiceError) throw result;
    return result;
  };
}
