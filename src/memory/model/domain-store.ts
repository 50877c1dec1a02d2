import type {
  DomainChanges,
  DomainFigures,
  DomainRecord,
  DomainSettings,
  EmbeddingVersionRecord,
} from "./domain.ts";
import type { EmbeddingSpace } from "./embedder.ts";

export interface CreateDomainOptions {
  /** Defaults to DEFAULT_DOMAIN_SETTINGS. Ignored if the domain exists. */
  readonly settings?: DomainSettings;
  /** Maximum number of domains, including this one; undefined for no limit. */
  readonly maxDomains?: number | undefined;
}

/** Port: the catalogue of domains. Names must be valid. */
export interface DomainStore {
  /** Lists all domains by name. */
  listDomains(signal?: AbortSignal): Promise<DomainRecord[]>;
  /** Returns the domain, at most seconds old; undefined if it does not exist. */
  findDomain(name: string, signal?: AbortSignal): Promise<DomainRecord | undefined>;
  /** Returns the current domain; undefined if it does not exist. */
  readDomain(name: string, signal?: AbortSignal): Promise<DomainRecord | undefined>;
  /** Returns up to `limit` current domains by name, starting after the name `after`. */
  pageDomains(after: string, limit: number, signal?: AbortSignal): Promise<DomainRecord[]>;
  /**
   * Creates the domain unless it exists. Verifies its tables in any case.
   *
   * @throws ServiceError DOMAIN_LIMIT_REACHED, also when many calls create domains concurrently.
   */
  createDomain(
    name: string,
    dimensions: number | undefined,
    options?: CreateDomainOptions,
  ): Promise<{ readonly domain: DomainRecord; readonly created: boolean }>;
  /** Changes settings of the domain and returns it; undefined if it does not exist. */
  updateDomain(name: string, changes: DomainChanges): Promise<DomainRecord | undefined>;
  /**
   * Deletes the domain with all its memories. Returns their number; undefined if the domain does not exist.
   *
   * @param recreate Creates an empty domain of the same name in the same transaction.
   */
  deleteDomain(
    name: string,
    recreate: { readonly dimensions: number | undefined } | undefined,
  ): Promise<bigint | undefined>;
  /** Counts the memories of the domain, which takes a while for a million of them. */
  measureDomain(domain: DomainRecord): Promise<DomainFigures>;
  /** Lists the text search configurations of the database by name. */
  listTextSearchConfigs(signal?: AbortSignal): Promise<string[]>;
}

/** Port: embedding versions, and the version that each domain uses. */
export interface EmbeddingVersionStore {
  /** Returns the records of these version numbers. Unknown numbers are missing. */
  readEmbeddingVersions(versions: readonly number[], signal?: AbortSignal): Promise<EmbeddingVersionRecord[]>;
  /**
   * Returns the version number of this space and chunker, and registers it if it is new. Spaces with different probes
   * differ.
   */
  registerEmbeddingVersion(space: EmbeddingSpace, chunker: number): Promise<number>;
  /**
   * Makes searches of the domain use this version. Embeddings of other dimensions are deleted, and their memories
   * become pending.
   */
  useEmbeddingVersion(domain: string, version: number, dimensions: number): Promise<DomainRecord>;
}

/** Port: domains whose text search configuration has changed. */
export interface ReindexQueue {
  /** Lists the names of the domains that need reindexing. */
  listReindexing(signal?: AbortSignal): Promise<string[]>;
  /**
   * Reindexes the texts of up to `limit` further memories. Returns false if none are left or another server reindexes
   * the domain.
   *
   * @throws ServiceError DOMAIN_NOT_FOUND
   */
  reindexTexts(name: string, limit: number): Promise<boolean>;
}

/** Port: the secret that signs page tokens. */
export interface PageTokenKeyStore {
  /** Returns the key, which all servers of the database share. */
  pageTokenKey(): Promise<Uint8Array>;
}
