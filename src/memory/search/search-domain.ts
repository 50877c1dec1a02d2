import type { ContentEmbedder } from "../embed/content-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import { StaleDomainError } from "../model/domain.ts";
import { domainNotFound } from "../model/errors.ts";
import type { Repository } from "../model/repository.ts";
import type { SemanticAnswer, TextRanker } from "../model/search-index.ts";
import { createQueryEmbedder, type QueryEmbeddings } from "./embed-query.ts";
import { candidateDepth, type DomainCandidate } from "./fuse-scores.ts";
import type { DomainLegs } from "./merge-domains.ts";
import type { DegradedReason, ParsedSearch } from "./search-command.ts";

/** The answer of one domain. */
export interface DomainAnswer extends DomainLegs {
  readonly semantic:
    | (Pick<SemanticAnswer, "approximate" | "scan"> & {
        readonly candidates: readonly DomainCandidate[];
        readonly version: number;
      })
    | undefined;
  readonly text: { readonly candidates: readonly DomainCandidate[]; readonly ranker: TextRanker } | undefined;
  /** Why the semantic leg did not run although it was requested. */
  readonly degraded: DegradedReason | undefined;
  /** Whether no further memory matches. */
  readonly exhausted: boolean;
  /** The embedding version it uses. */
  readonly version: number | undefined;
  /** Time that the domain waited for the embedding of the query, in milliseconds. */
  readonly embedMs: number;
}

export type DomainSearch = (
  command: ParsedSearch,
  name: string,
  embeddings: QueryEmbeddings,
  call: CallContext,
) => Promise<DomainAnswer>;

/** Creates the search in one domain: full-text leg, semantic leg, or both. */
export function createDomainSearch(dependencies: {
  readonly repository: Repository;
  readonly contents: ContentEmbedder;
  readonly embedBudgetMs: number;
}): DomainSearch {
  const { repository } = dependencies;

  const embedQuery = createQueryEmbedder(dependencies);

  async function findOnce(
    command: ParsedSearch,
    name: string,
    embeddings: QueryEmbeddings,
    call: CallContext,
  ): Promise<DomainAnswer> {
    const domain = await repository.findDomain(name, call.signal);
    if (domain === undefined) throw domainNotFound(name);
    const { mode, filter } = command;
    const depth = candidateDepth(command.limit);
    const withDomainName = (candidates: SemanticAnswer["candidates"]) =>
      candidates.map((candidate) => ({ ...candidate, domain: name }));
    const findText = async () => {
      const answer = await repository.searchText(
        name,
        { terms: command.terms, depth, minScore: command.minTextScore, filter },
        call.signal,
      );
      return { ...answer, candidates: withDomainName(answer.candidates) };
    };

    // Both legs run concurrently, so that the full-text leg does not wait for the embedder.
    const textLeg = mode === "semantic" ? undefined : findText();
    textLeg?.catch(() => {});
    const begin = performance.now();
    const query = mode === "text" ? undefined : await embedQuery(command, domain, embeddings, call);
    const embedMs = performance.now() - begin;
    if (query === undefined || typeof query === "string") {
      const textAlone = query === undefined || command.allowFallback;
      const text = textAlone ? await (textLeg ?? findText()) : undefined;
      return {
        domain: name,
        semantic: undefined,
        text,
        degraded: query,
        exhausted: text?.exhausted ?? true,
        version: domain.embeddingVersion,
        embedMs,
      };
    }

    const semantic = await repository.searchSemantic(
      name,
      {
        embedding: query.vector,
        embeddingVersion: query.version,
        depth,
        minSimilarity: command.minSimilarity,
        filter,
      },
      call.signal,
    );
    const text = await textLeg;
    const { version } = query;
    const { scan, approximate } = semantic;
    return {
      domain: name,
      semantic: { candidates: withDomainName(semantic.candidates), scan, approximate, version },
      text,
      degraded: undefined,
      exhausted: semantic.exhausted && (text?.exhausted ?? true),
      version,
      embedMs,
    };
  }

  return async (command, name, embeddings, call) => {
    try {
      return await findOnce(command, name, embeddings, call);
    } catch (error) {
      if (!(error instanceof StaleDomainError)) throw error;
      return await findOnce(command, name, embeddings, call);
    }
  };
}
