import type { EmbeddingSpace } from "./embedder.ts";
import { ServiceError } from "./errors.ts";
import type { Microseconds } from "./memory.ts";

/** The settings of a domain. */
export interface DomainSettings {
  /** What the domain holds, for people. */
  readonly description: string;
  /** PostgreSQL text search configuration, such as `english`. */
  readonly textSearchConfig: string;
  /** Undefined for the server's default model, which may change. */
  readonly embeddingModel: string | undefined;
  /** Requested dimensions; undefined for the model's own. */
  readonly requestedDimensions: number | undefined;
  /** Whether the domain keeps each content only once. Never changes. */
  readonly deduplicateContent: boolean;
}

/** The settings of a domain that Store creates. */
export const DEFAULT_DOMAIN_SETTINGS: DomainSettings = {
  description: "",
  textSearchConfig: "english",
  embeddingModel: undefined,
  requestedDimensions: undefined,
  deduplicateContent: false,
};

/** A domain in the catalogue. */
export interface DomainRecord extends DomainSettings {
  /** Differs from the id of a deleted domain of the same name. */
  readonly id: bigint;
  readonly name: string;
  readonly createTime: Microseconds;
  /** Dimensions of its embedding columns; undefined until those of a model are known. */
  readonly dimensions: number | undefined;
  /** The embedding version that searches use; undefined until the first embedding. */
  readonly embeddingVersion: number | undefined;
}

/** Changes to the settings of a domain. Undefined fields stay unchanged. */
export interface DomainChanges {
  readonly description?: string | undefined;
  /** Existing contents are reindexed in the background; until then both configurations find them. */
  readonly textSearchConfig?: string | undefined;
}

/** Figures of a domain at one moment. */
export interface DomainFigures {
  readonly memories: bigint;
  /** Memories without an embedding of the version that searches use, except failed ones. */
  readonly pending: bigint;
  readonly failed: bigint;
  /** Size of tables and indexes on disk. */
  readonly sizeBytes: bigint;
  /** Undefined if the domain is empty. */
  readonly lastWriteTime: Microseconds | undefined;
  readonly asOf: Microseconds;
  /** building: an index is being built, or texts are being reindexed. degraded: an index is missing or invalid. */
  readonly indexState: "ready" | "building" | "degraded";
}

/** An embedding version: what computed embeddings, under the number that the catalogue assigned. */
export interface EmbeddingVersionRecord extends EmbeddingSpace {
  readonly version: number;
  readonly chunker: number;
}

/**
 * The cached domain was out of date: another server has recreated it, or changed its dimensions. Retry with the current
 * one.
 */
export class StaleDomainError extends ServiceError {
  constructor(domain: string, cause: unknown) {
    super("CONFLICT", `domain "${domain}" was changed concurrently`, {
      metadata: { domain },
      retryAfterMs: 50,
      cause,
    });
  }
}
