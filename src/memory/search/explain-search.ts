import type { Repository } from "../model/repository.ts";
import type { SemanticScan } from "../model/search-index.ts";
import type { RankingOptions } from "./adjust-ranking.ts";
import type { ParsedSearch } from "./search-command.ts";
import type { DomainAnswer } from "./search-domain.ts";

/** Details of how a search was run. */
export interface SearchExplanation {
  readonly ranking: RankingOptions;
  /** Undefined if the semantic leg did not run. "index" if at least one of several domains used its index. */
  readonly semanticScan: SemanticScan | undefined;
  readonly semanticCandidates: number;
  readonly textCandidates: number;
  /** The distinct terms of the full-text leg in all domains. */
  readonly queryTerms: readonly string[];
  /** Time that the search waited for the embedding of the query, in milliseconds. */
  readonly embedMs: number;
  /** Time for everything else except reading the memories, in milliseconds. */
  readonly rankMs: number;
}

/** Explains a search. @param tookMs Time for ranking, including the embedding of the query, in milliseconds. */
export async function explainSearch(
  repository: Pick<Repository, "readQueryTerms">,
  command: ParsedSearch,
  answers: readonly DomainAnswer[],
  tookMs: number,
  signal: AbortSignal,
): Promise<SearchExplanation> {
  const scans = answers.flatMap(({ semantic }) => semantic?.scan ?? []);
  const terms = new Set<string>();
  for (const { domain, text } of answers) {
    if (text === undefined) continue;
    for (const term of await repository.readQueryTerms(domain, command.terms.words, signal)) terms.add(term);
  }
  const count = (leg: "semantic" | "text") =>
    answers.reduce((sum, answer) => sum + (answer[leg]?.candidates.length ?? 0), 0);
  // Domains wait for the same embedding, or for several concurrently.
  const embedMs = Math.max(0, ...answers.map((answer) => answer.embedMs));
  const { fusion, boost, diversity } = command;
  return {
    ranking: { fusion, boost, diversity },
    semanticScan: scans.includes("index") ? "index" : scans[0],
    semanticCandidates: count("semantic"),
    textCandidates: count("text"),
    queryTerms: [...terms],
    embedMs,
    rankMs: Math.max(0, tookMs - embedMs),
  };
}
