import type { Repository } from "../../memory/model/repository.ts";
import type { Database } from "../database/database.ts";
import {
  createDomainStore,
  createEmbeddingVersionStore,
  createPageTokenKeyStore,
  createReindexQueue,
} from "./create-domain-store.ts";
import { createEmbeddingQueue } from "./create-embedding-queue.ts";
import { createMemoryStore } from "./create-memory-store.ts";
import { createSearchIndex } from "./create-search-index.ts";
import { createDomainCache } from "./domain-cache.ts";

/** Creates all ports on PostgreSQL with pgvector or on the embedded engine, which run the same SQL. */
export function createPostgresRepository(database: Database): Repository {
  const domains = createDomainCache(database);
  return {
    ...createDomainStore(database, domains),
    ...createEmbeddingVersionStore(database, domains),
    ...createReindexQueue(database, domains),
    ...createPageTokenKeyStore(database),
    ...createMemoryStore(database, domains),
    ...createEmbeddingQueue(database, domains),
    ...createSearchIndex(database, domains),
  };
}
