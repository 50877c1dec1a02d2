import type { EmbeddingMode } from "../embed/inline-embedder.ts";
import type { CallerEmbedding } from "../model/caller-embedding.ts";
import type { MemoryFields } from "../model/memory.ts";

/** What to do if a different memory of the same id exists. */
export type IfExists = "fail" | "replace" | "keep";

export interface StoreCommand extends MemoryFields {
  readonly domain: string;
  /** The idempotency key. If it is undefined, the server generates an id, and a retry stores a second memory. */
  readonly id: string | undefined;
  readonly ifExists: IfExists;
  readonly embeddingMode: EmbeddingMode;
  /** Caller-supplied embedding of the whole content; undefined if the service computes it. */
  readonly embedding?: CallerEmbedding | undefined;
}
