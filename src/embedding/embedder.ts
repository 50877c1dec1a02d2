/** Whether a text asks or answers: many models want a different prefix for each. */
export type EmbeddingRole = "query" | "document";

/** What made an embedding. Two embeddings are comparable only if all of this is equal. */
export interface EmbeddingSpace {
  /** Model name as configured, with its tag: `nomic-embed-text:latest`. */
  readonly model: string;
  /** Digest of the model's weights as its server tells it, or "" where it tells none. */
  readonly digest: string;
  readonly dimensions: number;
  /** Name and revision of the prompt profile, as `nomic/1`. */
  readonly profile: string;
  /**
   * What a fixed text became: another version of the model's server may embed differently with the same weights.
   * Undefined: unknown, the same as any.
   */
  readonly probe?: Float32Array;
}

/** From this cosine similarity of their probes on, two engines count as the same. */
export const SAME_ENGINE_SIMILARITY = 0.999;

/** Why there is no embedding, and what to do about it. */
export type EmbedFailureKind =
  /** The embedder is away, busy, loading or answered nonsense: the same text may succeed later. */
  | "unavailable"
  /** The model is not there (and is not being pulled): an operator has to act. */
  | "model-missing"
  /** The text is longer than the model takes: split it. */
  | "too-long"
  /** This one text makes the model fail (NaN and the like): others may pass. */
  | "rejected";

export class EmbedError extends Error {
  override readonly name = "EmbedError";
  readonly kind: EmbedFailureKind;

  constructor(kind: EmbedFailureKind, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.kind = kind;
  }
}

export interface Embedder {
  /**
   * Embeds `texts`, in order. Every vector is a Float32Array of `space().dimensions`, finite, of unit length.
   * All or nothing: one failing text fails the call.
   *
   * @throws EmbedError; the signal's reason if the caller leaves (the work may go on for others).
   */
  embed(texts: readonly string[], role: EmbeddingRole, signal?: AbortSignal): Promise<Float32Array[]>;

  /** The space of the vectors now made, or undefined until the model has been seen. */
  space(): EmbeddingSpace | undefined;

  /** Longest text, in UTF-16 code units, that surely fits the model in one piece. */
  readonly maxChunkLength: number;

  /** State for health and logs. `reason` is one sentence for an operator. */
  status(): { readonly available: boolean; readonly reason: string };

  /** Calls `listener` each time the embedder has become usable, or its space has changed. Returns the way to stop it. */
  onAvailable(listener: () => void): () => void;

  close(): Promise<void>;
}
