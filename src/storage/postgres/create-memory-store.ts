import type { MemoryDraft, StoreEntry } from "../../memory/model/draft.ts";
import { ServiceError } from "../../memory/model/errors.ts";
import type { MemoryStore } from "../../memory/model/memory-store.ts";
import type { Database, Queryable, QueryOptions } from "../database/database.ts";
import type { DomainCache } from "./domain-cache.ts";
import { readEmbeddings } from "./embeddings/read-embeddings.ts";
import { changeMemory } from "./memories/change-memory.ts";
import { countMatching, deleteMatching } from "./memories/delete-matching.ts";
import { deleteMemoryAt } from "./memories/delete-memory.ts";
import { listMemories } from "./memories/list-memories.ts";
import { readMemory } from "./memories/read-memory.ts";
import { type EntryResult, storeInDomain } from "./memories/store-many.ts";
import { sweepExpired } from "./memories/sweep-expired.ts";
import { replaceChunks } from "./memories/write-chunks.ts";
import { insertMemory } from "./memories/write-memory.ts";

export function createMemoryStore(database: Database, { translateDomainErrors }: DomainCache): MemoryStore {
  return {
    async read(domain, id, signal) {
      return await translateDomainErrors(domain, readMemory(database, domain, id, { signal }));
    },

    async list(domain, query, signal) {
      return await translateDomainErrors(domain, listMemories(database, domain, query, { signal }));
    },

    async readEmbeddings(domain, memories, embeddingVersion, signal) {
      return await translateDomainErrors(
        domain,
        readEmbeddings(database, domain, memories, embeddingVersion, { signal }),
      );
    },

    async insert(domain, draft, signal) {
      const embedding = draft.embedding === "keep" ? undefined : draft.embedding;
      const furtherChunks = embedding !== undefined && embedding.chunks.length > 1;
      const insertWith = async (target: Queryable, options?: QueryOptions) => {
        const memory = await insertMemory(target, domain, draft, options);
        if (memory !== undefined && furtherChunks) await replaceChunks(target, domain, draft.id, embedding);
        return memory;
      };
      // A single statement is its own transaction and saves three round trips.
      return await translateDomainErrors(
        domain,
        furtherChunks
          ? database.transaction((transaction) => insertWith(transaction), { signal })
          : insertWith(database, { signal }),
      );
    },

    async change(domain, id, decide, signal) {
      return await translateDomainErrors(domain, changeMemory(database, domain, id, decide, { signal }));
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
            const ofDomain = entries.filter((entry) => entry.domain === domain);
            const stored = await translateDomainErrors(
              domain,
              storeInDomain(transaction, domain, ofDomain, inTime),
            );
            for (const [index, result] of stored.entries()) {
              const entry = ofDomain[index];
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
      return await translateDomainErrors(
        domain,
        deleteMemoryAt(database, domain, id, expectedVersion, { signal }),
      );
    },

    async countMatching(domain, filter, signal) {
      return await translateDomainErrors(domain, countMatching(database, domain, filter, { signal }));
    },

    async deleteMatching(domain, step, signal) {
      return await translateDomainErrors(domain, deleteMatching(database, domain, step, { signal }));
    },

    async sweepExpired(domain, limit, signal) {
      return await translateDomainErrors(domain, sweepExpired(database, domain, limit, { signal }));
    },
  };
}
