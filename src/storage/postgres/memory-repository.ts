import { domainNotFound, ServiceError } from "../../memory/model/errors.ts";
import {
  type DomainRecord,
  type MemoryDraft,
  type MemoryRepository,
  StaleDomainError,
  type StoreEntry,
} from "../../memory/model/memory-repository.ts";
import { type Database, DatabaseError, type Queryable, type QueryOptions } from "../database/database.ts";
import { SQLSTATE } from "../database/errors.ts";
import {
  changeDimensions,
  createDomain,
  dropDomain,
  registerEmbeddingVersion,
  selectDomain,
  selectDomainPage,
  selectDomains,
  selectEmbeddingVersions,
  selectTextSearchConfigs,
  setEmbeddingVersion,
  updateDomain,
} from "./domains/domain-catalogue.ts";
import { createDomainSizes } from "./domains/domain-size.ts";
import { measureDomain } from "./domains/measure-domain.ts";
import { readPageTokenKey } from "./domains/page-token-key.ts";
import { reindexWords, selectReindexing } from "./domains/reindex-text.ts";
import {
  claimPending,
  postponeEmbedding,
  writeEmbedding,
  writeFailure,
} from "./embeddings/pending-embeddings.ts";
import { readEmbeddings } from "./embeddings/read-embeddings.ts";
import { retryFailed } from "./embeddings/retry-failed.ts";
import { changeMemory } from "./memories/change-memory.ts";
import { countMatching, deleteMatching } from "./memories/delete-matching.ts";
import { deleteMemoryAt } from "./memories/delete-memory.ts";
import { listMemories } from "./memories/list-memories.ts";
import { readMemory } from "./memories/read-memory.ts";
import { type EntryResult, storeInDomain } from "./memories/store-many.ts";
import { sweepExpired } from "./memories/sweep-expired.ts";
import { replaceChunks } from "./memories/write-chunks.ts";
import { insertMemory } from "./memories/write-memory.ts";
import { fetchMemories } from "./search/fetch-memories.ts";
import { readAgeAndImportance } from "./search/read-age-and-importance.ts";
import { readHitEmbeddings } from "./search/read-hit-embeddings.ts";
import { readQueryTerms } from "./search/read-query-terms.ts";
import { searchSemantic } from "./search/search-semantic.ts";
import { createTextSearch } from "./search/search-text.ts";

/** How long a domain's record is believed: its version may be moved by another server. */
const DOMAIN_CACHE_MS = 5_000;

/** The repository on PostgreSQL with pgvector, or on the embedded engine: the same SQL for both. */
export function createPostgresMemoryRepository(database: Database): MemoryRepository {
  const sizeOf = createDomainSizes(database);
  const cache = new Map<string, { readonly record: DomainRecord; readonly until: number }>();
  const textSearch = createTextSearch(database);

  /** Read once: it does not change. */
  let pageTokenKey: Promise<Uint8Array> | undefined;

  function remember(record: DomainRecord): DomainRecord {
    cache.set(record.name, { record, until: performance.now() + DOMAIN_CACHE_MS });
    return record;
  }

  async function readDomain(name: string, signal?: AbortSignal): Promise<DomainRecord | undefined> {
    const record = await selectDomain(database, name, { signal });
    if (record === undefined) cache.delete(name);
    return record && remember(record);
  }

  async function findDomain(name: string, signal?: AbortSignal): Promise<DomainRecord | undefined> {
    const cached = cache.get(name);
    if (cached !== undefined && cached.until > performance.now()) return cached.record;
    return await readDomain(name, signal);
  }

  async function domainOf(name: string, signal?: AbortSignal): Promise<DomainRecord> {
    const record = await findDomain(name, signal);
    if (record === undefined) throw domainNotFound(name);
    return record;
  }

  async function reload(name: string): Promise<DomainRecord> {
    cache.delete(name);
    return await domainOf(name);
  }

  /**
   * A domain dropped by another server is noticed by its missing table, one that was made again or moved by vectors of
   * other dimensions (pgvector's only data exception in these statements).
   */
  async function inDomain<T>(name: string, work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (!(error instanceof DatabaseError)) throw error;
      if (error.sqlstate !== SQLSTATE.undefinedTable && error.sqlstate !== SQLSTATE.dataException)
        throw error;
      cache.delete(name);
      throw error.sqlstate === SQLSTATE.undefinedTable
        ? domainNotFound(name, error)
        : new StaleDomainError(name, error);
    }
  }

  return {
    async listDomains(signal) {
      return (await selectDomains(database, { signal })).map(remember);
    },

    findDomain,

    readDomain,

    pageTokenKey() {
      pageTokenKey ??= readPageTokenKey(database).catch((error: unknown) => {
        pageTokenKey = undefined;
        throw error;
      });
      return pageTokenKey;
    },

    async createDomain(name, dimensions, options) {
      const created = await database.transaction((transaction) =>
        createDomain(transaction, name, dimensions, options),
      );
      return { domain: await reload(name), created };
    },

    async pageDomains(after, limit, signal) {
      return (await selectDomainPage(database, after, limit, { signal })).map(remember);
    },

    async measureDomain(domain) {
      return await inDomain(domain.name, measureDomain(database, domain));
    },

    async updateDomain(name, changes) {
      const record = await inDomain(
        name,
        database.transaction((transaction) => updateDomain(transaction, name, changes)),
      );
      return record && remember(record);
    },

    async deleteDomain(name, again) {
      try {
        return await database.transaction(async (transaction) => {
          const memories = await dropDomain(transaction, name);
          if (memories !== undefined && again !== undefined) {
            await createDomain(transaction, name, again.dimensions);
          }
          return memories;
        });
      } finally {
        cache.delete(name);
      }
    },

    async listReindexing(signal) {
      return await selectReindexing(database, { signal });
    },

    async reindexWords(name, limit) {
      return await inDomain(
        name,
        database.transaction((transaction) => reindexWords(transaction, name, limit)),
      );
    },

    async listTextSearchConfigs(signal) {
      return await selectTextSearchConfigs(database, { signal });
    },

    async readEmbeddingVersions(versions, signal) {
      return await selectEmbeddingVersions(database, versions, { signal });
    },

    async registerEmbeddingVersion(space, chunker) {
      return await registerEmbeddingVersion(database, space, chunker);
    },

    async useEmbeddingVersion(name, version, dimensions) {
      await inDomain(name, changeDimensions(database, name, dimensions));
      await inDomain(
        name,
        database.transaction((transaction) => setEmbeddingVersion(transaction, name, version, dimensions)),
      );
      return await reload(name);
    },

    async read(domain, id, signal) {
      return await inDomain(domain, readMemory(database, domain, id, { signal }));
    },

    async list(domain, query, signal) {
      return await inDomain(domain, listMemories(database, domain, query, { signal }));
    },

    async readEmbeddings(domain, memories, embeddingVersion, signal) {
      return await inDomain(domain, readEmbeddings(database, domain, memories, embeddingVersion, { signal }));
    },

    async insert(domain, draft, signal) {
      const embedding = draft.embedding === "keep" ? undefined : draft.embedding;
      const furtherChunks = embedding !== undefined && embedding.chunks.length > 1;
      const insertWith = async (target: Queryable, options?: QueryOptions) => {
        const memory = await insertMemory(target, domain, draft, options);
        if (memory !== undefined && furtherChunks) await replaceChunks(target, domain, draft.id, embedding);
        return memory;
      };
      // One statement is a transaction of its own, three round trips cheaper.
      return await inDomain(
        domain,
        furtherChunks
          ? database.transaction((transaction) => insertWith(transaction), { signal })
          : insertWith(database, { signal }),
      );
    },

    async change(domain, id, decide, signal) {
      return await inDomain(domain, changeMemory(database, domain, id, decide, { signal }));
    },

    async storeMany(entries, { atomic, embeddingsMs, leaseMs }, signal) {
      return await database.transaction(
        async (transaction) => {
          const results = new Map<StoreEntry, EntryResult>();
          const until = performance.now() + embeddingsMs;
          const inTime = (draft: MemoryDraft) =>
            performance.now() < until || draft.embedding === "keep" || draft.embedding === undefined
              ? draft
              : { ...draft, embedding: undefined, leaseMs };
          for (const domain of [...new Set(entries.map((entry) => entry.domain))].sort()) {
            const own = entries.filter((entry) => entry.domain === domain);
            const stored = await inDomain(domain, storeInDomain(transaction, domain, own, inTime));
            for (const [index, result] of stored.entries()) {
              const entry = own[index];
              if (entry !== undefined) results.set(entry, result);
            }
          }
          const ordered = entries.flatMap((entry) => results.get(entry) ?? []);
          const failed = atomic ? ordered.find((result) => result instanceof ServiceError) : undefined;
          if (failed !== undefined) throw failed;
          return ordered;
        },
        { signal },
      );
    },

    async delete(domain, id, expectedVersion, signal) {
      return await inDomain(domain, deleteMemoryAt(database, domain, id, expectedVersion, { signal }));
    },

    async countMatching(domain, filter, signal) {
      return await inDomain(domain, countMatching(database, domain, filter, { signal }));
    },

    async deleteMatching(domain, step, signal) {
      return await inDomain(domain, deleteMatching(database, domain, step, { signal }));
    },

    async claimPending(domain, version, limit, leaseMs) {
      return await inDomain(domain, claimPending(database, domain, version, limit, leaseMs));
    },

    async completeEmbedding(domain, memory, embedding) {
      return await inDomain(
        domain,
        database.transaction(async (transaction) => {
          const written = await writeEmbedding(transaction, domain, memory, embedding);
          if (written) await replaceChunks(transaction, domain, memory.id, embedding);
          return written;
        }),
      );
    },

    async postponeEmbedding(domain, ids, delayMs, countAttempt) {
      await inDomain(domain, postponeEmbedding(database, domain, ids, delayMs, countAttempt));
    },

    async releaseEmbedding(domain, id) {
      await inDomain(domain, postponeEmbedding(database, domain, [id], 0, true));
    },

    async retryFailed(domain, step, signal) {
      return await inDomain(domain, retryFailed(database, domain, step, { signal }));
    },

    async sweepExpired(domain, limit, signal) {
      return await inDomain(domain, sweepExpired(database, domain, limit, { signal }));
    },

    async failEmbedding(domain, memory, reason) {
      await inDomain(
        domain,
        database.transaction(async (transaction) => {
          const written = await writeFailure(transaction, domain, memory, reason);
          // What it had of another version goes too, or a return to that version would find it.
          if (written) await replaceChunks(transaction, domain, memory.id, undefined);
        }),
      );
    },

    async searchSemantic(domain, query, signal) {
      return await inDomain(domain, searchSemantic(database, domain, query, sizeOf, { signal }));
    },

    async searchText(domain, query, signal) {
      return await inDomain(domain, textSearch.find(domain, query, { signal }));
    },

    async readQueryTerms(domain, query, signal) {
      return await readQueryTerms(database, domain, query, { signal });
    },

    async readAgeAndImportance(domain, ids, signal) {
      return await inDomain(domain, readAgeAndImportance(database, domain, ids, { signal }));
    },

    async readHitEmbeddings(domain, hits, signal) {
      return await inDomain(domain, readHitEmbeddings(database, domain, hits, { signal }));
    },

    async fetch(domain, hits, options, signal) {
      return await inDomain(domain, fetchMemories(database, domain, hits, options.content, { signal }));
    },
  };
}
