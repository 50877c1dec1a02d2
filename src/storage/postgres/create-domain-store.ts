import type {
  DomainStore,
  EmbeddingVersionStore,
  PageTokenKeyStore,
  ReindexQueue,
} from "../../memory/model/domain-store.ts";
import type { Database } from "../database/database.ts";
import type { DomainCache } from "./domain-cache.ts";
import {
  changeDimensions,
  createDomain,
  dropDomain,
  registerEmbeddingVersion,
  selectDomainPage,
  selectDomains,
  selectEmbeddingVersions,
  selectTextSearchConfigs,
  setEmbeddingVersion,
  updateDomain,
} from "./domains/domain-catalogue.ts";
import { measureDomain } from "./domains/measure-domain.ts";
import { readPageTokenKey } from "./domains/page-token-key.ts";
import { reindexTexts, selectReindexing } from "./domains/reindex-text.ts";

export function createDomainStore(database: Database, domains: DomainCache): DomainStore {
  return {
    async listDomains(signal) {
      return (await selectDomains(database, { signal })).map(domains.remember);
    },

    findDomain: domains.find,
    readDomain: domains.read,

    async pageDomains(after, limit, signal) {
      return (await selectDomainPage(database, after, limit, { signal })).map(domains.remember);
    },

    async createDomain(name, dimensions, options) {
      const created = await database.transaction((transaction) =>
        createDomain(transaction, name, dimensions, options),
      );
      return { domain: await domains.reload(name), created };
    },

    async updateDomain(name, changes) {
      const record = await domains.translateDomainErrors(
        name,
        database.transaction((transaction) => updateDomain(transaction, name, changes)),
      );
      return record && domains.remember(record);
    },

    async deleteDomain(name, recreate) {
      try {
        return await database.transaction(async (transaction) => {
          const memories = await dropDomain(transaction, name);
          if (memories !== undefined && recreate !== undefined) {
            await createDomain(transaction, name, recreate.dimensions);
          }
          return memories;
        });
      } finally {
        domains.discard(name);
      }
    },

    async measureDomain(domain) {
      return await domains.translateDomainErrors(domain.name, measureDomain(database, domain));
    },

    async listTextSearchConfigs(signal) {
      return await selectTextSearchConfigs(database, { signal });
    },
  };
}

export function createEmbeddingVersionStore(database: Database, domains: DomainCache): EmbeddingVersionStore {
  return {
    async readEmbeddingVersions(versions, signal) {
      return await selectEmbeddingVersions(database, versions, { signal });
    },

    async registerEmbeddingVersion(space, chunker) {
      return await registerEmbeddingVersion(database, space, chunker);
    },

    async useEmbeddingVersion(name, version, dimensions) {
      await domains.translateDomainErrors(name, changeDimensions(database, name, dimensions));
      await domains.translateDomainErrors(
        name,
        database.transaction((transaction) => setEmbeddingVersion(transaction, name, version, dimensions)),
      );
      return await domains.reload(name);
    },
  };
}

export function createReindexQueue(database: Database, domains: DomainCache): ReindexQueue {
  return {
    async listReindexing(signal) {
      return await selectReindexing(database, { signal });
    },

    async reindexTexts(name, limit) {
      return await domains.translateDomainErrors(
        name,
        database.transaction((transaction) => reindexTexts(transaction, name, limit)),
      );
    },
  };
}

/** Reads the key once, since it never changes. */
export function createPageTokenKeyStore(database: Database): PageTokenKeyStore {
  let key: Promise<Uint8Array> | undefined;
  return {
    pageTokenKey() {
      key ??= readPageTokenKey(database).catch((error: unknown) => {
        key = undefined;
        throw error;
      });
      return key;
    },
  };
}
