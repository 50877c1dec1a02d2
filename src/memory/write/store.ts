import type { EmbeddingMode } from "../embed/inline-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import type { CallerEmbedding } from "../model/caller-embedding.ts";
import type { StoreResult } from "../model/draft.ts";
import { ServiceError } from "../model/errors.ts";
import type { MemoryFields } from "../model/memory.ts";
import type { IfExists } from "./conflict-resolution.ts";
import type { StorePipeline } from "./store-pipeline.ts";

export interface StoreCommand extends MemoryFields {
  readonly domain: string;
  /** The idempotency key. If it is undefined, the server generates an id, and a retry stores a second memory. */
  readonly id: string | undefined;
  readonly ifExists: IfExists;
  readonly embeddingMode: EmbeddingMode;
  /** Caller-supplied embedding of the whole content; undefined if the service computes it. */
  readonly embedding?: CallerEmbedding | undefined;
}

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
