import { LRUCache } from "lru-cache";
import { type DomainRecord, StaleDomainError } from "../../memory/model/domain.ts";
import { domainNotFound } from "../../memory/model/errors.ts";
import { type Database, DatabaseError } from "../database/database.ts";
import { SQLSTATE } from "../database/errors.ts";
import { selectDomain } from "./domains/domain-catalogue.ts";

/** How long a cached domain is used. Another server may change its embedding version in the meantime. */
const CACHE_TTL_MS = 5_000;
const MAX_CACHED_DOMAINS = 10_000;

/** The domains that this server has read recently. The ports of one database share it. */
export interface DomainCache {
  /** Stores a current record and returns it. */
  remember(record: DomainRecord): DomainRecord;
  discard(name: string): void;
  /** Returns the domain, at most seconds old; undefined if it does not exist. */
  find(name: string, signal?: AbortSignal): Promise<DomainRecord | undefined>;
  /** Returns the current domain; undefined if it does not exist. */
  read(name: string, signal?: AbortSignal): Promise<DomainRecord | undefined>;
  /** Returns the current domain. @throws ServiceError DOMAIN_NOT_FOUND */
  reload(name: string): Promise<DomainRecord>;
  /**
   * Runs work on the tables of a domain, and translates the errors that a stale record causes: a missing table reveals
   * that another server has deleted the domain. A data exception, which pgvector raises for vectors of other dimensions
   * and nothing else raises here, reveals that another server has recreated the domain or changed its dimensions.
   *
   * @throws ServiceError DOMAIN_NOT_FOUND; StaleDomainError
   */
  translateDomainErrors<T>(name: string, work: Promise<T>): Promise<T>;
}

export function createDomainCache(database: Database): DomainCache {
  const cache = new LRUCache<string, DomainRecord>({ max: MAX_CACHED_DOMAINS, ttl: CACHE_TTL_MS });

  function remember(record: DomainRecord): DomainRecord {
    cache.set(record.name, record);
    return record;
  }

  async function read(name: string, signal?: AbortSignal): Promise<DomainRecord | undefined> {
    const record = await selectDomain(database, name, { signal });
    if (record === undefined) cache.delete(name);
    return record && remember(record);
  }

  return {
    remember,
    read,

    discard(name) {
      cache.delete(name);
    },

    async find(name, signal) {
      return cache.get(name) ?? (await read(name, signal));
    },

    async reload(name) {
      const record = await read(name);
      if (record === undefined) throw domainNotFound(name);
      return record;
    },

    async translateDomainErrors(name, work) {
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
    },
  };
}
