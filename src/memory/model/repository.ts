import type { DomainStore, EmbeddingVersionStore, PageTokenKeyStore, ReindexQueue } from "./domain-store.ts";
import type { EmbeddingQueue } from "./embedding-queue.ts";
import type { MemoryStore } from "./memory-store.ts";
import type { SearchIndex } from "./search-index.ts";

/** All ports of one database. Use cases declare the ports that they need, not this type. */
export interface Repository
  extends DomainStore,
    EmbeddingVersionStore,
    ReindexQueue,
    PageTokenKeyStore,
    MemoryStore,
    EmbeddingQueue,
    SearchIndex {}
