import type { CallerEmbedding } from "../model/caller-embedding.ts";
import type { Filter } from "../model/filter.ts";
import type { TextTerms } from "../model/text-query.ts";
import type { RankingOptions } from "./adjust-ranking.ts";

export type SearchMode = "hybrid" | "semantic" | "text";

export interface SearchCommand extends RankingOptions {
  /** Distinct names of domains that must exist, or all domains. */
  readonly domains: readonly string[] | "all";
  /** With "all": whether the caller may read a domain. Undefined if the caller may read every domain. */
  readonly mayRead?: ((domain: string) => boolean) | undefined;
  /** May be empty in semantic mode with an embedding. */
  readonly query: string;
  /** Caller-supplied embedding of the query, of unit length; undefined if the service computes it. */
  readonly embedding: CallerEmbedding | undefined;
  readonly limit: number;
  readonly mode: SearchMode;
  /** Whether full-text search may answer alone while the embedder is unavailable. */
  readonly allowFallback: boolean;
  /** Minimum cosine similarity of semantic candidates, -1 to 1. */
  readonly minSimilarity: number | undefined;
  /** Minimum score of full-text candidates, on the text ranker's scale. */
  readonly minTextScore: number | undefined;
  /** Which memories to consider; undefined for all. */
  readonly filter: Filter | undefined;
  /** Whether the answer includes contents. Snippets are always included. */
  readonly content: boolean;
  /** Whether the answer explains how the search was run. */
  readonly explain: boolean;
}

/** A command whose query has been parsed, once for all domains and both legs. */
export interface ParsedSearch extends SearchCommand {
  readonly terms: TextTerms;
}

/** Why the semantic leg did not run. */
export type DegradedReason =
  | "embedder_unavailable"
  | "embedding_version_mismatch"
  | "no_embeddings"
  | "query_not_embeddable";
