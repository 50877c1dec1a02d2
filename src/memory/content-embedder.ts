import { setTimeout as sleep } from "node:timers/promises";
import { type Embedder, EmbedError } from "../embedding/embedder.ts";
import type { Logger } from "../logger.ts";
import type {
  ChunkRange,
  ContentEmbedding,
  DomainRecord,
  MemoryRepository,
} from "../storage/memory-repository.ts";
import { CHUNKER_REVISION, chunkText, textOfChunk } from "./chunk.ts";

/** A content cut for the model: what to embed, and where it lies in the content. */
export interface SplitContent {
  readonly texts: readonly string[];
  readonly ranges: readonly ChunkRange[];
}

/** A question as a vector, comparable only with embeddings of the same version. */
export interface QueryEmbedding {
  readonly vector: Float32Array;
  readonly version: number;
}

/** Embeds whole contents and questions, and says in which embedding version. */
export interface ContentEmbedder {
  split(content: string): SplitContent;
  /** @throws EmbedError */
  embedContent(content: SplitContent, signal?: AbortSignal): Promise<ContentEmbedding>;
  /** @throws EmbedError */
  embedQuery(query: string, signal?: AbortSignal): Promise<QueryEmbedding>;
  /** Makes `domain` search in the current version, if one is known and the domain uses another or none. */
  align(domain: DomainRecord): Promise<DomainRecord>;
  /** The current embedding version and its dimensions; undefined until the model has been seen. */
  current(): Promise<{ readonly version: number; readonly dimensions: number } | undefined>;
}

/** Texts longer than this are passed to the embedder in parts, so that the answers of a huge memory stay small. */
const TEXTS_PER_CALL = 64;

export function createContentEmbedder(dependencies: {
  readonly embedder: Embedder;
  readonly repository: MemoryRepository;
  readonly logger: Logger;
}): ContentEmbedder {
  const { embedder, repository, logger } = dependencies;
  /** Version numbers by space: asked from the catalogue once each. */
  const versions = new Map<string, Promise<number>>();

  async function current() {
    const space = embedder.space();
    if (space === undefined) return undefined;
    const key = JSON.stringify([space.model, space.digest, space.dimensions, space.profile]);
    let version = versions.get(key);
    if (version === undefined) {
      version = repository.registerEmbeddingVersion(space, CHUNKER_REVISION);
      versions.set(key, version);
      version.catch(() => versions.delete(key));
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

  return {
    current,

    split(content) {
      const chunks = chunkText(content, embedder.maxChunkLength);
      return {
        texts: chunks.map((chunk) => textOfChunk(content, chunk)),
        ranges: codePointRanges(content, chunks),
      };
    },

    async embedContent(content, signal) {
      const { made, version } = await inOneVersion(async () => {
        const vectors: Float32Array[] = [];
        for (let first = 0; first < content.texts.length; first += TEXTS_PER_CALL) {
          const texts = content.texts.slice(first, first + TEXTS_PER_CALL);
          vectors.push(...(await embedder.embed(texts, "document", signal)));
        }
        return vectors;
      });
      return { version, vectors: made };
    },

    async embedQuery(query, signal) {
      const { made, version } = await inOneVersion(() => embedder.embed([query], "query", signal));
      const [vector] = made;
      if (vector === undefined) throw new EmbedError("unavailable", "the embedder returned no vector");
      return { vector, version };
    },

    async align(domain) {
      const now = await current();
      if (now === undefined || domain.embeddingVersion === now.version) return domain;
      logger.info(
        { domain: domain.name, from: domain.embeddingVersion, to: now.version },
        "domain moves to another embedding version",
      );
      return await repository.useEmbeddingVersion(domain.name, now.version, now.dimensions);
    },
  };
}

/** The promise's value, or undefined if it takes longer than `milliseconds`. The promise goes on. */
export async function within<T>(promise: Promise<T>, milliseconds: number): Promise<T | undefined> {
  const timer = new AbortController();
  try {
    return await Promise.race([
      promise,
      sleep(milliseconds, undefined, { signal: timer.signal, ref: false }).catch(() => undefined),
    ]);
  } finally {
    timer.abort();
  }
}

/** How long a call may wait for the embedder: its budget, and never more than half of what its deadline leaves. */
export function embedBudget(budgetMs: number, remainingMs: number | undefined): number {
  return remainingMs === undefined ? budgetMs : Math.max(0, Math.min(budgetMs, remainingMs / 2));
}

function codePointRanges(
  content: string,
  chunks: readonly { readonly start: number; readonly end: number }[],
): ChunkRange[] {
  const wide = /[\ud800-\udbff]/.test(content);
  let start = 0;
  return chunks.map((chunk) => {
    const length = wide ? [...content.slice(chunk.start, chunk.end)].length : chunk.end - chunk.start;
    const range = { start, end: start + length };
    start = range.end;
    return range;
  });
}
