import type { Logger } from "../../util/logger.ts";
import type { DomainRecord } from "../model/domain.ts";
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
import type { Repository } from "../model/repository.ts";
import { CHUNKER_REVISION, chunkText, textOfChunk } from "./chunk.ts";

/** A question as a vector, comparable only with embeddings of the same version. */
export interface QueryEmbedding {
  readonly vector: Float32Array;
  readonly version: number;
}

/** Embeds whole contents and questions, and says in which embedding version. */
export interface ContentEmbedder {
  /** That of the domain's choice of a model: this one, or one of its own. */
  of(domain: ModelChoice): ContentEmbedder;
  /** Whether its model can be used now, as far as is known. */
  available(): boolean;
  /** How many chunks the content will have, as far as can be told before the model has seen it. */
  countChunks(content: string): number;
  /**
   * Cuts the content into chunks and embeds each. A chunk that is too long for the model after all (dense text has
   * more tokens than its length tells) is cut in two; one of nothing but white space is left out.
   *
   * @throws EmbedError
   */
  embedContent(content: string, signal?: AbortSignal): Promise<ContentEmbedding>;
  /**
   * A query too long for the model is cut as contents are; its embedding points where its pieces do on average, each
   * counting by its length.
   *
   * @throws EmbedError
   */
  embedQuery(query: string, signal?: AbortSignal): Promise<QueryEmbedding>;
  /** Makes `domain` search in the current version, if one is known and the domain uses another or none. */
  align(domain: DomainRecord): Promise<DomainRecord>;
  /** The current embedding version and its dimensions; undefined until the model has been seen. */
  current(): Promise<{ readonly version: number; readonly dimensions: number } | undefined>;
}

/** Contents of more chunks than this are passed to the embedder in parts: one failure does not cost all of them. */
const CHUNKS_PER_CALL = 64;

/** A chunk of so few UTF-16 code units that is too long for a model says that something else is wrong. */
const SMALLEST_CUT = 32;

/** A part of a content, in UTF-16 code units. */
interface Piece {
  readonly start: number;
  readonly text: string;
}

interface EmbeddedPiece extends Piece {
  readonly vector: Float32Array;
}

/** @param dependencies `embedders`: where domains may choose a model; without it all have that of `embedder`. */
export function createContentEmbedder(dependencies: {
  readonly embedder: Embedder;
  readonly embedders?: Pick<Embedders, "of">;
  readonly repository: Repository;
  readonly logger: Logger;
}): ContentEmbedder {
  const { embedder, embedders, repository, logger } = dependencies;
  /** Of other choices, by their embedder: one that was closed is not used again. */
  const others = new WeakMap<Embedder, ContentEmbedder>();
  /** Version numbers by space, of which the embedder makes one for each it comes to: asked from the catalogue once each. */
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

  /** The version of vectors that were made between two looks at the space; a model swapped meanwhile is a failure. */
  async function inOneVersion<T>(make: () => Promise<T>): Promise<{ made: T; version: number }> {
    const before = embedder.space();
    const made = await make();
    if (before !== undefined && before !== embedder.space()) {
      throw new EmbedError("unavailable", "the embedding model changed while it embedded");
    }
    const now = await current();
    if (now === undefined) throw new EmbedError("unavailable", "the embedding model is not known yet");
    return { made, version: now.version };
  }

  async function embedPieces(
    pieces: readonly Piece[],
    role: EmbeddingRole,
    signal?: AbortSignal,
  ): Promise<EmbeddedPiece[]> {
    let vectors: Float32Array[];
    try {
      const texts = pieces.map((piece) => piece.text);
      vectors = await embedder.embed(texts, role, signal);
    } catch (error) {
      const halves = error instanceof EmbedError && error.kind === "too-long" ? cutInTwo(pieces) : undefined;
      if (halves === undefined) throw error;
      const embedded: EmbeddedPiece[] = [];
      for (const half of halves) embedded.push(...(await embedPieces(half, role, signal)));
      return embedded;
    }
    return pieces.map((piece, index) => {
      const vector = vectors[index];
      if (vector === undefined) throw new EmbedError("unavailable", "the embedder returned too few vectors");
      return { ...piece, vector };
    });
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
      const { made, version } = await inOneVersion(async () => {
        const embedded: EmbeddedPiece[] = [];
        for (let first = 0; first < pieces.length; first += CHUNKS_PER_CALL) {
          embedded.push(
            ...(await embedPieces(pieces.slice(first, first + CHUNKS_PER_CALL), "document", signal)),
          );
        }
        return embedded;
      });
      return { version, chunks: chunksFrom(content, made) };
    },

    async embedQuery(query, signal) {
      const whole = { start: 0, text: query };
      const pieces =
        query.length > embedder.maxChunkLength ? piecesOf(whole, embedder.maxChunkLength) : [whole];
      const { made, version } = await inOneVersion(() => embedPieces(pieces, "query", signal));
      return { vector: commonDirection(made), version };
    },

    async align(domain) {
      const now = await current();
      if (now === undefined || domain.embeddingVersion === now.version) return domain;
      logger.info(
        { domain: domain.name, from: domain.embeddingVersion, to: now.version },
        "domain moves to another embedding version",
      );
      const moved = await repository.useEmbeddingVersion(domain.name, now.version, now.dimensions);
      // The model may have changed while that was written, after a worker has moved the domains it knew.
      return await contents.align(moved);
    },
  };
  return contents;
}

/** How long a call may wait for the embedder: its budget, and never more than half of what its deadline leaves. */
export function embedBudget(budgetMs: number, remainingMs: number | undefined): number {
  return remainingMs === undefined ? budgetMs : Math.max(0, Math.min(budgetMs, remainingMs / 2));
}

/** Two halves of a list; of a single piece, its text cut anew. Undefined if it is too short to be cut. */
function cutInTwo(pieces: readonly Piece[]): Piece[][] | undefined {
  const [only] = pieces;
  if (only === undefined) return undefined;
  if (pieces.length > 1) {
    const middle = Math.ceil(pieces.length / 2);
    return [pieces.slice(0, middle), pieces.slice(middle)];
  }
  if (only.text.length <= SMALLEST_CUT) return undefined;
  return [piecesOf(only, Math.ceil(only.text.length / 2))];
}

function piecesOf(whole: Piece, maxLength: number): Piece[] {
  return chunkText(whole.text, maxLength)
    .map((chunk) => ({ start: whole.start + chunk.start, text: textOfChunk(whole.text, chunk) }))
    .filter((piece) => /\S/u.test(piece.text));
}

/** The mean of the embeddings at unit length; of a single one, itself. */
function commonDirection(pieces: readonly EmbeddedPiece[]): Float32Array {
  const [first, ...others] = pieces;
  if (first === undefined) throw new EmbedError("rejected", "the query has no text to embed");
  if (others.length === 0) return first.vector;
  const sum = new Float64Array(first.vector.length);
  for (const { text, vector } of pieces) {
    for (const [n, value] of vector.entries()) sum[n] = (sum[n] ?? 0) + value * text.length;
  }
  const length = Math.hypot(...sum);
  // Pieces that cancel each other out point nowhere.
  return length === 0 ? first.vector : Float32Array.from(sum, (value) => value / length);
}

/** With offsets in code points, as the database and other languages count them. */
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
