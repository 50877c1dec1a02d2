import type { MemoryRepository, SemanticScan } from "../model/memory-repository.ts";
import type { RankingOptions } from "./adjust-ranking.ts";
import type { SearchCommand } from "./search.ts";
import type { DomainAnswer } from "./search-domain.ts";

/** What happened in a search, for the curious. */
export interface SearchExplanation {
  readonly ranking: RankingOptions;
  /** Undefined: meaning was not searched. Of several domains "index" if any was searched so. */
  readonly semanticScan: SemanticScan | undefined;
  readonly semanticCandidates: number;
  readonly textCandidates: number;
  /** Of all domains that were searched by words, each once. */
  readonly queryTerms: readonly string[];
  /** How long the search waited for the embedding of the query, in milliseconds. */
  readonly embedMs: number;
  /** Everything else but reading the memories, in milliseconds. */
  readonly rankMs: number;
}

/** @param tookMs how long ranking took, the embedding of the query included */
export async function explainSearch(
  repository: Pick<MemoryRepository, "readQueryTerms">,
  command: SearchCommand,
  answers: readonly DomainAnswer[],
  tookMs: number,
  signal: AbortSignal,
): Promise<SearchExplanation> {
  const scans = answers.flatMap(({ semantic }) => semantic?.scan ?? []);
  const terms = new Set<string>();
  for (const { domain, text } of answers) {
    if (text === undefined) continue;
    for (const term of await repository.readQueryTerms(domain, command.query, signal)) terms.add(term);
  }
  const count = (leg: "semantic" | "text") =>
    answers.reduce((sum, answer) => sum + (answer[leg]?.candidates.length ?? 0), 0);
  // Domains wait for the same embedding, or for several at once.
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
