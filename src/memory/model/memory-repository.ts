import type { EmbeddingSpace } from "../../embedding/embedder.ts";
import type { ListOrder } from "../read/list.ts";
import type { Settlement, StoreResult } from "../write/store.ts";
import { ServiceError } from "./errors.ts";
import type { Filter } from "./filter.ts";
import type { Memory, MemoryFields, Microseconds } from "./memory.ts";

/** What a domain is made with. */
export interface DomainSettings {
  /** What is kept in it, for people. */
  readonly description: string;
  /** PostgreSQL text search configuration, such as `english`. */
  readonly textSearchConfig: string;
  /** Undefined: the server's default, whatever that becomes. */
  readonly embeddingModel: string | undefined;
  /** Dimensions asked for; undefined: the model's own. */
  readonly requestedDimensions: number | undefined;
  /** Whether it keeps each content once. Never changes. */
  readonly deduplicateContent: boolean;
}

/** Of a domain that Store makes. */
export const DEFAULT_DOMAIN_SETTINGS: DomainSettings = {
  description: "",
  textSearchConfig: "english",
  embeddingModel: undefined,
  requestedDimensions: undefined,
  deduplicateContent: false,
};

/** A domain as the catalogue knows it. */
export interface DomainRecord extends DomainSettings {
  /** Another one than that of a dropped domain of the same name. */
  readonly id: bigint;
  readonly name: string;
  readonly createTime: Microseconds;
  /** Dimensions of its embedding columns; undefined until a model's are known. */
  readonly dimensions: number | undefined;
  /** The embedding version that searches compare with; undefined until the first embedding. */
  readonly embeddingVersion: number | undefined;
}

/** What can be changed of a domain later; undefined: stays as it is. */
export interface DomainChanges {
  readonly description?: string | undefined;
  /** Words of contents that are there are indexed anew by `reindexWords`, and found by both ways until then. */
  readonly textSearchConfig?: string | undefined;
}

/** Figures of a domain at one moment. */
export interface DomainFigures {
  readonly memories: bigint;
  /** Without an embedding of the version that searches use, and not failed. */
  readonly pending: bigint;
  readonly failed: bigint;
  /** Tables and indexes on disk. */
  readonly sizeBytes: bigint;
  /** Undefined if there is no memory. */
  readonly lastWriteTime: Microseconds | undefined;
  readonly asOf: Microseconds;
  /** building: one is built, or words are indexed anew. degraded: one is missing or not valid. */
  readonly indexState: "ready" | "building" | "degraded";
}

/** What made embeddings, by the number that the catalogue gave it. */
export interface EmbeddingVersionRecord extends EmbeddingSpace {
  readonly version: number;
  readonly chunker: number;
}

export interface CreateDomainOptions {
  /** Default: DEFAULT_DOMAIN_SETTINGS. Left alone if the domain exists. */
  readonly settings?: DomainSettings;
  /** How many domains there may be with it; default: any number. */
  readonly maxDomains?: number | undefined;
}

/** Where a chunk lies in its content, in code points: from `start` up to, not including, `end`. */
export interface ChunkRange {
  readonly start: number;
  readonly end: number;
}

export interface EmbeddedChunk extends ChunkRange {
  /** Of unit length. */
  readonly vector: Float32Array;
}

/** The chunks of one content with their embeddings, in order: at least one. */
export interface ContentEmbedding {
  readonly version: number;
  readonly chunks: readonly EmbeddedChunk[];
}

/** What the store sets itself, but for imported memories. */
export interface TakenOver {
  readonly createTime: Microseconds | undefined;
  readonly updateTime: Microseconds | undefined;
  readonly version: bigint | undefined;
}

/** A memory to be written. */
export interface MemoryDraft extends MemoryFields {
  readonly id: string;
  /** How many chunks it has; while it is pending, how many it probably will have. */
  readonly chunkCount: number;
  /**
   * Its embeddings; "keep" those of the row it replaces (same content); or undefined: pending, and no worker takes
   * it before `leaseMs` are over.
   */
  readonly embedding: ContentEmbedding | "keep" | undefined;
  /** Leaves the end of the row it replaces as it is: the same `ttl` written again would begin anew. */
  readonly keepExpiry?: boolean;
  /** Of an imported memory: what it brings along. What is undefined becomes what it would be without. */
  readonly takenOver?: TakenOver;
  /** For a pending memory: how long its writer wants to embed it alone, in milliseconds. */
  readonly leaseMs: number;
}

/** The next memories to delete of those that match. */
export interface MatchingStep {
  readonly filter: Filter;
  /** The last memory of the step before; undefined: from the beginning. */
  readonly after: string | undefined;
  readonly limit: number;
}

export interface DeletionStep {
  readonly matched: bigint;
  /** Fewer than matched if others deleted or changed some meanwhile. */
  readonly deleted: bigint;
  /** The last one that matched; undefined: none did. */
  readonly last: string | undefined;
}

/** What became of the next failed memories. */
export interface RetryStep {
  readonly retried: bigint;
  /** The last one that matched; undefined: none did. */
  readonly last: string | undefined;
}

/** One memory of many to be stored together. */
export interface StoreEntry {
  readonly domain: string;
  readonly draft: MemoryDraft;
  /** What to do about the memory that has the id. A ServiceError that it throws becomes the result of this entry. */
  readonly settle: (current: Memory) => Settlement;
}

export interface StoreManyOptions {
  /** Throws the first error of an entry, and stores nothing. */
  readonly atomic: boolean;
  /**
   * How long new embeddings are written, in milliseconds: each is put into the vector index, at 1 to 20 ms. What is left
   * is stored as pending, for its writer to complete within `leaseMs`.
   */
  readonly embeddingsMs: number;
  readonly leaseMs: number;
}

/** A page of memories, by a time and the id. */
export interface ListQuery {
  readonly filter: Filter | undefined;
  readonly order: ListOrder;
  /** The last memory of the page before; undefined: from the beginning. */
  readonly after: { readonly time: Microseconds; readonly id: string } | undefined;
  readonly limit: number;
  /** Whether to read contents, or their beginnings only. */
  readonly content: boolean;
}

export interface ListedMemory {
  readonly memory: Memory;
  /** Beginning of the content where the content itself was not asked for; "" otherwise. */
  readonly preview: string;
  /** Whether it is followed by another within the limit, be that returned or not. */
  readonly more: boolean;
}

/** What became of a memory that was to be deleted. */
export type Deletion =
  | { readonly kind: "deleted" }
  | { readonly kind: "missing" }
  /** It is still there, at this version. */
  | { readonly kind: "other-version"; readonly version: bigint };

/** A domain that keeps each content once has this one already, under another id; nothing was written. */
export class DuplicateContentError extends ServiceError {
  /** The memory that has the content. */
  readonly memory: Memory;

  constructor(memory: Memory) {
    const { domain, id } = memory;
    super(
      "MEMORY_ALREADY_EXISTS",
      `domain "${domain}" keeps each content once and has this one as memory "${id}"`,
      { metadata: { domain, id, fields: "content" } },
    );
    this.memory = memory;
  }
}

/**
 * A write or a search was made for the domain as it was: it was dropped and made again, or moved to other dimensions,
 * by somebody else. What is known of it now is asked anew.
 */
export class StaleDomainError extends ServiceError {
  constructor(domain: string, cause: unknown) {
    super("CONFLICT", `domain "${domain}" was changed meanwhile`, {
      metadata: { domain },
      retryAfterMs: 50,
      cause,
    });
  }
}

/** A memory whose embedding is due. */
export interface PendingMemory {
  readonly id: string;
  readonly content: string;
  /** SHA-256 of the content: an embedding is written only if it is still the same. */
  readonly contentHash: Uint8Array;
  /** How often a worker has taken it, this time included. */
  readonly attempts: number;
}

/** One answer of a search leg, best first. `score`: cosine similarity, or the text ranker's. */
export interface Candidate {
  readonly id: string;
  readonly score: number;
  /** The chunk that matched best; undefined from the text leg, which ranks whole contents. */
  readonly chunkIndex: number | undefined;
}

/** A piece of a content, from `start` up to, not including, `end`, in code points. */
export interface Snippet extends ChunkRange {
  readonly text: string;
}

/** What may move a memory up or down, beside the query. */
export interface AgeAndImportance {
  readonly id: string;
  /** Since its last change, by the clock of the database; below 0 for imports from the future. */
  readonly ageSeconds: number;
  /** As it was stored, which an import may have done beyond 0 to 1. */
  readonly importance: number | undefined;
}

/** The embedding of the chunk that matched. */
export interface HitEmbedding {
  readonly id: string;
  /** Its embedding version. */
  readonly version: number;
  readonly vector: Float32Array;
}

/** A memory read for a hit, with the place that matched. */
export interface FetchedMemory {
  readonly memory: Memory;
  /** Beginning of the content where the content itself was not asked for; "" otherwise. */
  readonly preview: string;
  /** The beginning of the chunk that matched, or of the content. */
  readonly snippet: Snippet;
  /** Of a hit that was found by its words: a stretch around the snippet, of at most 32,768 code points, to find them in. */
  readonly surroundings: Snippet | undefined;
}

/** A memory to be read. */
export interface HitToFetch extends Pick<Candidate, "id" | "chunkIndex"> {
  /** Set if it was found by its words. */
  readonly textRank?: number | undefined;
}

export interface SemanticQuery {
  /** Of unit length, made in the domain's embedding version. */
  readonly embedding: Float32Array;
  readonly embeddingVersion: number;
  /** How many candidates to find. */
  readonly depth: number;
  readonly minSimilarity: number | undefined;
  /** Which memories to consider; undefined: all. */
  readonly filter?: Filter | undefined;
}

/** How the nearest were looked for: by comparing all that match, or through the vector indexes. */
export type SemanticScan = "exact" | "index";

export interface SemanticAnswer {
  readonly candidates: Candidate[];
  readonly scan: SemanticScan;
  /** True if there is no further memory within the bounds of the query. */
  readonly exhausted: boolean;
  /** True if the index was used in a way that may miss some of the nearest. */
  readonly approximate: boolean;
}

export interface TextQuery {
  readonly query: string;
  readonly depth: number;
  readonly minScore: number | undefined;
  /** Which memories to consider; undefined: all. */
  readonly filter?: Filter | undefined;
}

/** What ranks words: the BM25 index of pg_textsearch, or BM25 computed in SQL where that is not there. */
export type TextRanker = "bm25_index" | "bm25_sql";

export interface TextAnswer {
  /** With scores above 0. */
  readonly candidates: Candidate[];
  /** True if there is no further memory within the bounds of the query. */
  readonly exhausted: boolean;
  readonly ranker: TextRanker;
}

/**
 * Where memories are kept. Every method names its domain, whose name must obey the rule; those that need its tables
 * throw ServiceError DOMAIN_NOT_FOUND if it does not exist. Expired memories do not exist for any of them.
 */
export interface MemoryRepository {
  /** All domains, by name. */
  listDomains(signal?: AbortSignal): Promise<DomainRecord[]>;
  /** The domain, at most seconds old, or undefined. */
  findDomain(name: string, signal?: AbortSignal): Promise<DomainRecord | undefined>;
  /** The domain as it is now, or undefined. */
  readDomain(name: string, signal?: AbortSignal): Promise<DomainRecord | undefined>;
  /**
   * Makes the domain unless it exists; its tables are seen to in any case.
   *
   * @throws ServiceError DOMAIN_LIMIT_REACHED, also for one of many that make domains at once.
   */
  createDomain(
    name: string,
    dimensions: number | undefined,
    options?: CreateDomainOptions,
  ): Promise<{ readonly domain: DomainRecord; readonly created: boolean }>;
  /** Up to `limit` domains whose names come after `after`, by name, as they are now. */
  pageDomains(after: string, limit: number, signal?: AbortSignal): Promise<DomainRecord[]>;
  /** Counts; of a million memories that takes a while. */
  measureDomain(domain: DomainRecord): Promise<DomainFigures>;
  /** Changes settings of the domain; undefined if there is none. */
  updateDomain(name: string, changes: DomainChanges): Promise<DomainRecord | undefined>;
  /**
   * Deletes the domain with all its memories; returns how many it had, undefined if there is none. `again`: makes an
   * empty one of this name in the same moment.
   */
  deleteDomain(
    name: string,
    again: { readonly dimensions: number | undefined } | undefined,
  ): Promise<bigint | undefined>;
  /** Names of the domains whose words are to be indexed anew. */
  listReindexing(signal?: AbortSignal): Promise<string[]>;
  /**
   * Indexes the words of up to `limit` further memories anew. False: nothing is left to do, or somebody else does it.
   *
   * @throws ServiceError DOMAIN_NOT_FOUND
   */
  reindexWords(name: string, limit: number): Promise<boolean>;
  /** The text search configurations that the database has, by name. */
  listTextSearchConfigs(signal?: AbortSignal): Promise<string[]>;
  /** What these numbers stand for; unknown ones are missing. */
  readEmbeddingVersions(versions: readonly number[], signal?: AbortSignal): Promise<EmbeddingVersionRecord[]>;

  /** Number of the version for this space and chunker; registers it if it is new. Spaces whose probes differ are two. */
  registerEmbeddingVersion(space: EmbeddingSpace, chunker: number): Promise<number>;
  /** Makes searches of the domain use this version; embeddings of other dimensions are dropped, their memories pending. */
  useEmbeddingVersion(domain: string, version: number, dimensions: number): Promise<DomainRecord>;

  /** The key of page tokens, which all servers of the database share. */
  pageTokenKey(): Promise<Uint8Array>;

  /** The memory with its content, or undefined. */
  read(domain: string, id: string, signal?: AbortSignal): Promise<Memory | undefined>;
  /** Writes a new memory, whole or not at all; undefined if its id is taken, or its content where it must be unique. */
  insert(domain: string, draft: MemoryDraft, signal?: AbortSignal): Promise<Memory | undefined>;
  /**
   * Locks the memory, shows it to `decide` (undefined: none), and writes the draft it returns, if any: over the
   * memory (which keeps its create time and gets the next version) or as a new one. Returns what is stored then. May ask
   * `decide` again after a conflict.
   *
   * @throws DuplicateContentError; ServiceError CONFLICT.
   */
  change(
    domain: string,
    id: string,
    decide: (current: Memory | undefined) => MemoryDraft | undefined,
    signal?: AbortSignal,
  ): Promise<Memory | undefined>;
  /** Lists memories in order: up to the limit, or fewer (but one at least) that take about as much as a message may. */
  list(domain: string, query: ListQuery, signal?: AbortSignal): Promise<ListedMemory[]>;
  /**
   * The chunks of memories whose embedding is of this version, by id, in order; of those that have changed since they
   * were read at their version, none. The first begins where the content does.
   */
  readEmbeddings(
    domain: string,
    memories: readonly Pick<Memory, "id" | "version">[],
    embeddingVersion: number,
    signal?: AbortSignal,
  ): Promise<Map<string, EmbeddedChunk[]>>;
  /**
   * Stores memories of any domains in one transaction; an id occurs once in a domain. Results in order: of an entry
   * that is not stored, why.
   *
   * @throws ServiceError DOMAIN_NOT_FOUND, CONFLICT: nothing is stored, and trying again may help.
   */
  storeMany(
    entries: readonly StoreEntry[],
    options: StoreManyOptions,
    signal?: AbortSignal,
  ): Promise<(StoreResult | ServiceError)[]>;
  /** Deletes the memory, if it is at `expectedVersion` (undefined: whatever its version). */
  delete(
    domain: string,
    id: string,
    expectedVersion: bigint | undefined,
    signal?: AbortSignal,
  ): Promise<Deletion>;

  /** How many memories match. */
  countMatching(domain: string, filter: Filter, signal?: AbortSignal): Promise<bigint>;
  /** Deletes the next memories that match, in the order of their ids, all of them or none. */
  deleteMatching(domain: string, step: MatchingStep, signal?: AbortSignal): Promise<DeletionStep>;

  /**
   * Takes up to `limit` memories whose embedding is due, fewer (but one at least) if they are long; no other worker gets
   * them for `leaseMs`.
   */
  claimPending(domain: string, version: number, limit: number, leaseMs: number): Promise<PendingMemory[]>;
  /**
   * Writes embeddings, if the content is still the one they were made of and has not got others of this version
   * meanwhile. Returns whether they were written.
   */
  completeEmbedding(
    domain: string,
    memory: Pick<PendingMemory, "id" | "contentHash">,
    embedding: ContentEmbedding,
  ): Promise<boolean>;
  /**
   * Gives claimed memories back, or prolongs the claim: due again after `delayMs`. `countAttempt`: whether the attempt
   * that the claim has counted stays counted.
   */
  postponeEmbedding(
    domain: string,
    ids: readonly string[],
    delayMs: number,
    countAttempt: boolean,
  ): Promise<void>;
  /** Makes a memory due that its writer meant to embed, and could not. */
  releaseEmbedding(domain: string, id: string): Promise<void>;
  /** Makes the next failed memories pending, in the order of their ids. */
  retryFailed(
    domain: string,
    step: { readonly filter: Filter | undefined; readonly after: string | undefined; readonly limit: number },
    signal?: AbortSignal,
  ): Promise<RetryStep>;
  /** Removes up to `limit` memories that have expired, but those that somebody holds; returns how many. */
  sweepExpired(domain: string, limit: number, signal?: AbortSignal): Promise<number>;
  /** Marks the embedding as failed for good, if the content is still the same and was not embedded meanwhile. */
  failEmbedding(
    domain: string,
    memory: Pick<PendingMemory, "id" | "contentHash">,
    reason: string,
  ): Promise<void>;

  /** The nearest memories by cosine similarity, each once with its best chunk, best first. */
  searchSemantic(domain: string, query: SemanticQuery, signal?: AbortSignal): Promise<SemanticAnswer>;
  /** The memories that contain any word of the query and obey its quotes and `-word`, best first. */
  searchText(domain: string, query: TextQuery, signal?: AbortSignal): Promise<TextAnswer>;
  /** The words that a text search of the domain looks for: stemmed, without stop words, in alphabetical order. */
  readQueryTerms(domain: string, query: string, signal?: AbortSignal): Promise<string[]>;
  /** What the memories weigh beside the query, in any order; those gone meanwhile are missing. */
  readAgeAndImportance(
    domain: string,
    ids: readonly string[],
    signal?: AbortSignal,
  ): Promise<AgeAndImportance[]>;
  /** The embeddings of the chunks that matched (undefined: the first), in any order; memories without one are missing. */
  readHitEmbeddings(
    domain: string,
    hits: readonly Pick<Candidate, "id" | "chunkIndex">[],
    signal?: AbortSignal,
  ): Promise<HitEmbedding[]>;
  /** Reads memories for hits, in the order given; those gone meanwhile are missing. */
  fetch(
    domain: string,
    hits: readonly HitToFetch[],
    options: { readonly content: boolean },
    signal?: AbortSignal,
  ): Promise<FetchedMemory[]>;
}
