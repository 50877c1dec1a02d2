import type { Logger } from "../../util/logger.ts";
import type { DomainRecord } from "../model/domain.ts";
import type { EmbeddingVersionStore } from "../model/domain-store.ts";
import type { ContentEmbedding, EmbeddedChunk } from "../model/draft.ts";
import {
  type Embedder,
  type Embedders,
  type EmbeddingRole,
  type EmbeddingSpace,
  EmbedError,
  type ModelChoice,
  usesDefaultModel,
} from "../model/embedder.ts";
import { CHUNKER_REVISION, chunkText, textOfChunk } from "./chunk.ts";

/** The embedding of a query. Comparable only with embeddings of the same version. */
export interface QueryEmbedding {
  readonly vector: Float32Array;
  readonly version: number;
}

/** Embeds whole contents and queries, and assigns their embedding version. */
export interface ContentEmbedder {
  /** Returns the content embedder for the model of a domain. */
  of(domain: ModelChoice): ContentEmbedder;
  /** Returns whether the model is available, according to its last known state. */
  available(): boolean;
  /** Estimates the number of chunks of a content without calling the model. */
  countChunks(content: string): number;
  /**
   * Splits the content into chunks and embeds them. A chunk that is still too long for the model, because dense text
   * has more tokens than its length suggests, is split in two. A chunk that contains only white space is omitted.
   *
   * @throws EmbedError
   */
  embedContent(content: string, signal?: AbortSignal): Promise<ContentEmbedding>;
  /**
   * Embeds a query. A query that is too long for the model is split like a content; its embedding is the mean of its
   * pieces, weighted by their length.
   *
   * @throws EmbedError
   */
  embedQuery(query: string, signal?: AbortSignal): Promise<QueryEmbedding>;
  /** Switches the domain to the current version, if that is known and the domain uses another version or none. */
  align(domain: DomainRecord): Promise<DomainRecord>;
  /** Returns the current embedding version and its dimensions; undefined until the model has been available. */
  current(): Promise<{ readonly version: number; readonly dimensions: number } | undefined>;
}

/** Chunks passed to the embedder in one call. A failure then affects only part of a long content. */
const CHUNKS_PER_CALL = 64;

/**
 * Minimum length of a chunk that is split, in UTF-16 code units. If a shorter one is too long for the model, it has
 * another fault.
 */
const MIN_SPLIT_LENGTH = 32;

/** A part of a content. `start` is in UTF-16 code units. */
interface Piece {
  readonly start: number;
  readonly text: string;
}

interface EmbeddedPiece extends Piece {
  readonly vector: Float32Array;
}

/** @param dependencies `embedders` provides other models; without it every domain uses the model of `embedder`. */
export function createContentEmbedder(dependencies: {
  readonly embedder: Embedder;
  readonly embedders?: Pick<Embedders, "of">;
  readonly repository: EmbeddingVersionStore;
  readonly logger: Logger;
}): ContentEmbedder {
  const { embedder, embedders, repository, logger } = dependencies;
  /** Content embedders of other models by their embedder, so that a closed embedder is not used again. */
  const others = new WeakMap<Embedder, ContentEmbedder>();
  /** Version numbers by space. Each space is looked up in the catalogue once. */
  const versions = new WeakMap<EmbeddingSpace, Promise<number>>();

  async function current() {
    const space = embedder.space();
    if (space === undefined) return undefined;
    let version = versions.get(space);
    if (version === undefined) {
      version = repository.registerEmbeddingVersion(space, CHUNKER_REVISION);
      versions.set(space, version);
      version.catch(() => versions.delete(space));
    }
    return { version: await version, dimensions: space.dimensions };
  }

  /** Returns embeddings with their version. Fails if the model changes while it embeds. */
  async function inOneVersion<T>(embed: () => Promise<T>): Promise<{ result: T; version: number }> {
    const before = embedder.space();
    const result = await embed();
    if (before !== undefined && before !== embedder.space()) {
      throw new EmbedError("unavailable", "the embedding model changed during the call");
    }
    const now = await current();
    if (now === undefined) throw new EmbedError("unavailable", "the embedding model is not known yet");
    return { result, version: now.version };
  }

  const contents: ContentEmbedder = {
    of(domain) {
      if (embedders === undefined || usesDefaultModel(domain)) return contents;
      const chosen = embedders.of(domain);
      let other = others.get(chosen);
      if (other === undefined) {
        other = createContentEmbedder({ embedder: chosen, repository, logger });
        others.set(chosen, other);
      }
      return other;
    },

    available: () => embedder.status().available,

    current,

    countChunks(content) {
      return Math.max(1, piecesOf({ start: 0, text: content }, embedder.maxChunkLength).length);
    },

    async embedContent(content, signal) {
      const pieces = piecesOf({ start: 0, text: content }, embedder.maxChunkLength);
      if (pieces.length === 0) throw new EmbedError("rejected", "the content has no text to embed");
      const { result, version } = await inOneVersion(async () => {
        const embedded: EmbeddedPiece[] = [];
        for (let first = 0; first < pieces.length; first += CHUNKS_PER_CALL) {
          embedded.push(
            ...(await embedPieces(
              embedder,
              pieces.slice(first, first + CHUNKS_PER_CALL),
              "document",
              signal,
            )),
          );
        }
        return embedded;
      });
      return { version, chunks: chunksFrom(content, result) };
    },

    async embedQuery(query, signal) {
      const whole = { start: 0, text: query };
      const pieces =
        query.length > embedder.maxChunkLength ? piecesOf(whole, embedder.maxChunkLength) : [whole];
      const { result, version } = await inOneVersion(() => embedPieces(embedder, pieces, "query", signal));
      return { vector: meanDirection(result), version };
    },

    async align(domain) {
      const now = await current();
      if (now === undefined || domain.embeddingVersion === now.version) return domain;
      logger.info(
        { domain: domain.name, from: domain.embeddingVersion, to: now.version },
        "switching a domain to another embedding version",
      );
      const switched = await repository.useEmbeddingVersion(domain.name, now.version, now.dimensions);
      // The model may have changed in the meantime, after the worker has switched the domains that it knew.
      return await contents.align(switched);
    },
  };
  return contents;
}

/** Embeds pieces of texts. If the model rejects a piece as too long, splits the list or the piece in two. */
async function embedPieces(
  embedder: Embedder,
  pieces: readonly Piece[],
  role: EmbeddingRole,
  signal?: AbortSignal,
): Promise<EmbeddedPiece[]> {
  let vectors: Float32Array[];
  try {
    const texts = pieces.map((piece) => piece.text);
    vectors = await embedder.embed(texts, role, signal);
  } catch (error) {
    const halves = error instanceof EmbedError && error.kind === "too-long" ? splitInTwo(pieces) : undefined;
    if (halves === undefined) throw error;
    const embedded: EmbeddedPiece[] = [];
    for (const half of halves) embedded.push(...(await embedPieces(embedder, half, role, signal)));
    return embedded;
  }
  return pieces.map((piece, index) => {
    const vector = vectors[index];
    if (vector === undefined) throw new EmbedError("unavailable", "the embedder returned too few vectors");
    return { ...piece, vector };
  });
}

/** Returns how long a call may wait for the embedder: its budget, but at most half of the time until its deadline. */
export function embedBudget(budgetMs: number, remainingMs: number | undefined): number {
  return remainingMs === undefined ? budgetMs : Math.max(0, Math.min(budgetMs, remainingMs / 2));
}

/**
 * Returns the two halves of a list, or a single piece split by its text. Undefined if that is too short to be split.
 */
function splitInTwo(pieces: readonly Piece[]): Piece[][] | undefined {
  const [only] = pieces;
  if (only === undefined) return undefined;
  if (pieces.length > 1) {
    const middle = Math.ceil(pieces.length / 2);
    return [pieces.slice(0, middle), pieces.slice(middle)];
  }
  if (only.text.length <= MIN_SPLIT_LENGTH) return undefined;
  return [piecesOf(only, Math.ceil(only.text.length / 2))];
}

function piecesOf(whole: Piece, maxLength: number): Piece[] {
  return chunkText(whole.text, maxLength)
    .map((chunk) => ({ start: whole.start + chunk.start, text: textOfChunk(whole.text, chunk) }))
    .filter((piece) => /\S/u.test(piece.text));
}

/** Returns the mean of the embeddings, weighted by length and of unit length. */
function meanDirection(pieces: readonly EmbeddedPiece[]): Float32Array {
  const [first, ...others] = pieces;
  if (first === undefined) throw new EmbedError("rejected", "the query has no text to embed");
  if (others.length === 0) return first.vector;
  const sum = new Float64Array(first.vector.length);
  for (const { text, vector } of pieces) {
    for (const [n, value] of vector.entries()) sum[n] = (sum[n] ?? 0) + value * text.length;
  }
  const length = Math.hypot(...sum);
  // Opposite embeddings cancel each other out.
  return length === 0 ? first.vector : Float32Array.from(sum, (value) => value / length);
}

/** Converts offsets to code points, which the database and other languages count. */
function chunksFrom(content: string, pieces: readonly EmbeddedPiece[]): EmbeddedChunk[] {
  const wide = /[\ud800-\udbff]/.test(content);
  const codePoints = (text: string) => (wide ? [...text].length : text.length);
  let units = 0;
  let points = 0;
  return pieces.map((piece) => {
    points += codePoints(content.slice(units, piece.start));
    const start = points;
    points += codePoints(piece.text);
    units = piece.start + piece.text.length;
    return { start, end: points, vector: piece.vector };
  });
}
