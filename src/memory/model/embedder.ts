/** Whether a text is a query or a document. Many models want a different prefix for each. */
export type EmbeddingRole = "query" | "document";

/** What computed an embedding. Two embeddings are comparable only if their spaces are equal. */
export interface EmbeddingSpace {
  /** Configured name of the model with its tag, such as `nomic-embed-text:latest`. */
  readonly model: string;
  /** Digest of the model's weights as its server reports it; "" if it reports none. */
  readonly digest: string;
  readonly dimensions: number;
  /** Name and revision of the model profile, such as `nomic/1`. */
  readonly profile: string;
  /**
   * Embedding of a fixed text, because another version of the model's server may compute other embeddings with the same
   * weights. Undefined matches every probe.
   */
  readonly probe?: Float32Array;
}

/** Minimum cosine similarity of the probes of two engines that count as the same. */
export const SAME_ENGINE_SIMILARITY = 0.999;

/** Why an embedding failed, and what can be done. */
export type EmbedFailureKind =
  /** The embedder is unreachable, busy, loading, or returned an invalid answer. The same text may succeed later. */
  | "unavailable"
  /** The model does not exist and is not being downloaded. An operator has to act. */
  | "model-missing"
  /** The text is too long for the model and has to be split. */
  | "too-long"
  /** The model fails on this text, for example with NaN. Other texts may succeed. */
  | "rejected";

export class EmbedError extends Error {
  override readonly name = "EmbedError";
  readonly kind: EmbedFailureKind;

  constructor(kind: EmbedFailureKind, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.kind = kind;
  }
}

/** Port: an embedding model. */
export interface Embedder {
  /**
   * Embeds `texts` and returns, in order, a Float32Array of `space().dimensions` for each: finite and of unit length.
   * One failing text fails the call.
   *
   * @throws EmbedError; the signal's reason if it aborts, while the work may continue for other callers.
   */
  embed(texts: readonly string[], role: EmbeddingRole, signal?: AbortSignal): Promise<Float32Array[]>;

  /** Returns the space of the embeddings; undefined until the model has been available. */
  space(): EmbeddingSpace | undefined;

  /** Maximum length of a text that always fits the model, in UTF-16 code units. */
  readonly maxChunkLength: number;

  /** Returns the state for health checks and logs. `reason` is one sentence for an operator. */
  status(): { readonly available: boolean; readonly reason: string };

  /**
   * Calls `listener` whenever the embedder becomes available or its space changes. Returns a function that
   * unsubscribes.
   */
  onAvailable(listener: () => void): () => void;

  close(): Promise<void>;
}

/** The model settings of a domain. */
export interface ModelChoice {
  /** Undefined for the server's default model. */
  readonly embeddingModel: string | undefined;
  /** Undefined for the model's own dimensions. */
  readonly requestedDimensions: number | undefined;
}

/** Port: the embedders of a server, one for each model choice. */
export interface Embedders extends Pick<Embedder, "onAvailable" | "close"> {
  /** Returns the embedder of a choice, and creates it when it is first needed. */
  of(choice: ModelChoice): Embedder;
  /** Closes the embedder of a choice that no domain uses. */
  discard(choice: ModelChoice): void;
  /** Closes the embedders of all choices that were missing from this call and the previous one. */
  keepOnly(choices: readonly ModelChoice[]): void;
  /** Returns whether at least one embedder is available. */
  status(): { readonly available: boolean };
}

/** Returns whether a domain uses the server's default model with its own dimensions. */
export function usesDefaultModel({ embeddingModel, requestedDimensions }: ModelChoice): boolean {
  return embeddingModel === undefined && requestedDimensions === undefined;
}
