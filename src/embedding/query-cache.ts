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
 * The least recently used entry makes way. 1,000 entries of 768 dimensions are 3 MB.
 *
 * @param maxEntries 0 switches the cache off.
 */
export function createQueryCache(maxEntries = 1_000): QueryCache {
  const entries = new Map<string, Float32Array>();
  return {
    get size() {
      return entries.size;
    },
    get(space, text) {
      const key = keyOf(space, text);
      const found = entries.get(key);
      if (found === undefined) return undefined;
      entries.delete(key);
      entries.set(key, found);
      // A copy: whoever gets it may change it or hand its buffer to another thread.
      return found.slice();
    },
    clear() {
      entries.clear();
    },
    set(space, text, embedding) {
      if (maxEntries <= 0 || text.length > MAX_CACHED_TEXT_LENGTH) return;
      const key = keyOf(space, text);
      entries.delete(key);
      entries.set(key, embedding.slice());
      for (const oldest of entries.keys()) {
        if (entries.size <= maxEntries) break;
        entries.delete(oldest);
      }
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
