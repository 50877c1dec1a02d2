import { LRUCache } from "lru-cache";
import type { EmbeddingSpace } from "../memory/model/embedder.ts";

/** Caches the embeddings of recent queries. */
export interface QueryCache {
  get(space: EmbeddingSpace, text: string): Float32Array | undefined;
  set(space: EmbeddingSpace, text: string, embedding: Float32Array): void;
  /** Removes all entries. */
  clear(): void;
  readonly size: number;
}

/** Longer queries are rare and seldom repeated. Without a bound, 1,000 of them would take megabytes. */
const MAX_CACHED_TEXT_LENGTH = 2_000;

/**
 * Creates a cache that evicts the least recently used entries. 1,000 entries of 768 dimensions take 3 MB.
 *
 * @param maxEntries 0 disables the cache.
 */
export function createQueryCache(maxEntries = 1_000): QueryCache {
  const entries = new LRUCache<string, Float32Array>({ max: Math.max(1, maxEntries) });
  return {
    get size() {
      return entries.size;
    },
    get(space, text) {
      // Callers get copies, because they may modify an embedding or transfer its buffer to another thread.
      return entries.get(keyOf(space, text))?.slice();
    },
    clear() {
      entries.clear();
    },
    set(space, text, embedding) {
      if (maxEntries <= 0 || text.length > MAX_CACHED_TEXT_LENGTH) return;
      entries.set(keyOf(space, text), embedding.slice());
    },
  };
}

/** Returns a key that is equal for two spaces if their embeddings are comparable, as far as that shows without the probe. */
export function spaceKey(space: EmbeddingSpace): string {
  return JSON.stringify([space.model, space.digest, space.dimensions, space.profile]);
}

function keyOf(space: EmbeddingSpace, text: string): string {
  return `${spaceKey(space)}\n${text}`;
}
