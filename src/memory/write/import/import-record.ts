import type { EmbeddedChunk, PreservedFields } from "../../model/draft.ts";
import type { ServiceError } from "../../model/errors.ts";
import type { MemoryFields } from "../../model/memory.ts";

/** An exported memory. It expires at a fixed time or never. */
export interface ImportedRecord extends MemoryFields {
  readonly domain: string;
  readonly id: string;
  readonly preserved: PreservedFields;
  /** Embedded by the import's embedding version; undefined if the content has to be embedded here. */
  readonly chunks: readonly EmbeddedChunk[] | undefined;
}

/** An invalid record. */
export interface BadRecord {
  readonly id: string;
  readonly error: ServiceError;
}
