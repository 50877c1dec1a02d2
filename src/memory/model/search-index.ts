import type { ChunkRange } from "./draft.ts";
import type { Filter } from "./filter.ts";
import type { Memory } from "./memory.ts";
import type { TextTerms } from "./text-query.ts";

/** One result of a search leg. */
export interface Candidate {
  readonly id: string;
  /** Cosine similarity, or the text ranker's score. */
  readonly score: number;
  /** The best matching chunk; undefined from the full-text leg, which ranks whole contents. */
  readonly chunkIndex: number | undefined;
}

/** How a semantic search finds the nearest embeddings: by exact search, or through the vector indexes. */
export type SemanticScan = "exact" | "index";

export interface SemanticQuery {
  /** Float32Array of unit length, in the domain's embedding version. */
  readonly embedding: Float32Array;
  readonly embeddingVersion: number;
  /** Number of candidates to find. */
  readonly depth: number;
  /** Minimum cosine similarity; undefined for none. */
  readonly minSimilarity: number | undefined;
  /** Which memories to consider; undefined for all. */
  readonly filter?: Filter | undefined;
}

export interface SemanticAnswer {
  /** Best first. */
  readonly candidates: Candidate[];
  readonly scan: SemanticScan;
  /** Whether no further memory matches the query. */
  readonly exhausted: boolean;
  /** Whether the index was used in a way that may miss more of the nearest memories than usual. */
  readonly approximate: boolean;
}

export interface TextQuery {
  readonly terms: TextTerms;
  /** Number of candidates to find. */
  readonly depth: number;
  /** Minimum score; undefined for none. */
  readonly minScore: number | undefined;
  /** Which memories to consider; undefined for all. */
  readonly filter?: Filter | undefined;
}

/**
 * The ranker of a full-text search: the BM25 index of pg_textsearch, or BM25 computed in SQL where that is not
 * available.
 */
export type TextRanker = "bm25_index" | "bm25_sql";

export interface TextAnswer {
  /** Best first, with scores above 0. */
  readonly candidates: Candidate[];
  /** Whether no further memory matches the query. */
  readonly exhausted: boolean;
  readonly ranker: TextRanker;
}

/** A part of a content, with its range in code points. */
export interface Snippet extends ChunkRange {
  readonly text: string;
}

/** Properties of a memory that may change its rank besides the query. */
export interface AgeAndImportance {
  readonly id: string;
  /** Time since the last change by the database's clock; negative for memories imported with a future time. */
  readonly ageSeconds: number;
  /** The stored importance, which an import may have set outside 0 to 1. */
  readonly importance: number | undefined;
}

/** The embedding of the chunk that matched. */
export interface HitEmbedding {
  readonly id: string;
  /** Its embedding version. */
  readonly version: number;
  readonly vector: Float32Array;
}

/** A hit whose memory is to be read. */
export interface HitToFetch extends Pick<Candidate, "id" | "chunkIndex"> {
  /** Set if the full-text leg found the memory. */
  readonly textRank?: number | undefined;
}

export interface FetchOptions {
  /** Whether to read contents. */
  readonly content: boolean;
  /** Maximum length of snippets and previews, in code points. */
  readonly snippetLength: number;
}

/** The memory of a hit, with the part that matched. */
export interface FetchedMemory {
  readonly memory: Memory;
  /** Beginning of the content if the content itself was not requested; "" otherwise. */
  readonly preview: string;
  /** Beginning of the chunk that matched, or of the content. */
  readonly snippet: Snippet;
  /** For a hit of the full-text leg: the text around the snippet to highlight, at most 32,768 code points. */
  readonly surroundings: Snippet | undefined;
}

/** Port: search in one domain. Methods throw ServiceError DOMAIN_NOT_FOUND and ignore expired memories. */
export interface SearchIndex {
  /** Finds the nearest memories by cosine similarity, each once with its best chunk, best first. */
  searchSemantic(domain: string, query: SemanticQuery, signal?: AbortSignal): Promise<SemanticAnswer>;
  /** Finds the memories that contain any word of the query and satisfy its operators, best first. */
  searchText(domain: string, query: TextQuery, signal?: AbortSignal): Promise<TextAnswer>;
  /** Returns the lexemes of words in the domain's configuration: stemmed, without stop words, in alphabetical order. */
  readQueryTerms(domain: string, words: string, signal?: AbortSignal): Promise<string[]>;
  /** Reads the age and importance of memories, in any order. Memories that no longer exist are missing. */
  readAgeAndImportance(
    domain: string,
    ids: readonly string[],
    signal?: AbortSignal,
  ): Promise<AgeAndImportance[]>;
  /**
   * Reads the embeddings of the chunks that matched (undefined for the first chunk), in any order. Memories without an
   * embedding are missing.
   */
  readHitEmbeddings(
    domain: string,
    hits: readonly Pick<Candidate, "id" | "chunkIndex">[],
    signal?: AbortSignal,
  ): Promise<HitEmbedding[]>;
  /** Reads the memories of hits, in the given order. Memories that no longer exist are missing. */
  fetch(
    domain: string,
    hits: readonly HitToFetch[],
    options: FetchOptions,
    signal?: AbortSignal,
  ): Promise<FetchedMemory[]>;
}
