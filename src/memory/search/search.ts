import { mapBounded } from "../../util/map-bounded.ts";
import type { ContentEmbedder } from "../embed/content-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import { assertCompatible } from "../model/caller-embedding.ts";
import { ServiceError } from "../model/errors.ts";
import { MAX_RESPONSE_BYTES } from "../model/limits.ts";
import type { Repository } from "../model/repository.ts";
import type { TextRanker } from "../model/search-index.ts";
import { parseTextQuery } from "../model/text-query.ts";
import { structBytes, textBytes } from "../read/message-size.ts";
import { adjustRanking } from "./adjust-ranking.ts";
import type { QueryEmbeddings } from "./embed-query.ts";
import { explainSearch, type SearchExplanation } from "./explain-search.ts";
import { mergeDomains } from "./merge-domains.ts";
import { HIT_BYTES, readHits, type SearchHit, type StreamProgress } from "./read-hits.ts";
import type { DegradedReason, ParsedSearch, SearchCommand, SearchMode } from "./search-command.ts";
import { createDomainSearch, type DomainAnswer } from "./search-domain.ts";

/** How a search was run. */
export interface SearchInfo {
  readonly modeUsed: SearchMode;
  /** Set if the requested mode could not be used. */
  readonly degraded: DegradedReason | undefined;
  /** True if the index may miss more of the nearest memories than usual. */
  readonly approximate: boolean;
  /** True if the answer has as many hits as the limit, or no further memory matches. */
  readonly limitFilled: boolean;
  /** Ranker of the full-text leg; undefined if that leg did not run. */
  readonly textRanker: TextRanker | undefined;
  /** Embedding version of the semantic leg; undefined if there was none or more than one. */
  readonly embeddingVersion: number | undefined;
  /** Whether the domains were merged by rank, because their scores are not comparable. */
  readonly mergedByRank: boolean;
  /** Undefined unless requested. */
  readonly explanation: SearchExplanation | undefined;
}

export interface Search {
  /** @throws ServiceError DOMAIN_NOT_FOUND, EMBEDDER_UNAVAILABLE, RESPONSE_TOO_LARGE */
  search(
    command: SearchCommand,
    call: CallContext,
  ): Promise<{ readonly hits: SearchHit[]; readonly info: SearchInfo }>;
  /** Ranks first, then reads hits page by page as the consumer requests them. Holds no connection between pages. */
  stream(
    command: SearchCommand,
    call: CallContext,
  ): Promise<{
    readonly info: SearchInfo;
    readonly hits: AsyncGenerator<SearchHit>;
    /** Changes while the hits are read. */
    readonly progress: StreamProgress;
  }>;
}

/** Number of domains searched concurrently. Each may need two connections, and other calls need some too. */
const DOMAINS_AT_ONCE = 2;
/** Suggested pause before a retry while the embedder is unavailable: about the circuit breaker's pause. */
const RETRY_AFTER_MS = 2_000;

export function createSearch(dependencies: {
  readonly repository: Repository;
  readonly contents: ContentEmbedder;
  readonly embedBudgetMs: number;
}): Search {
  const { repository } = dependencies;

  const findInDomain = createDomainSearch(dependencies);

  async function rank(command: ParsedSearch, call: CallContext) {
    const begin = performance.now();
    const all = command.domains === "all";
    const names = all
      ? (await repository.listDomains(call.signal))
          .map(({ name }) => name)
          .filter(command.mayRead ?? (() => true))
      : [...command.domains];
    const embeddings: QueryEmbeddings = new Map();
    const found = await mapBounded(names, DOMAINS_AT_ONCE, async (name) => {
      try {
        return await findInDomain(command, name, embeddings, call);
      } catch (error) {
        // The domain was deleted after the domains were listed.
        if (all && error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND") return undefined;
        throw error;
      }
    });
    const answers = found.filter((answer) => answer !== undefined);
    const degraded = answers.find((answer) => answer.degraded !== undefined)?.degraded;
    const ranSemantic = answers.some(({ semantic }) => semantic !== undefined);
    if (degraded !== undefined && !ranSemantic) assertMayFallBack(command, degraded, answers);
    const ranText = answers.some(({ text }) => text !== undefined);
    const versions = new Set(answers.flatMap(({ semantic }) => (semantic ? [semantic.version] : [])));
    const { ranked: merged, byRank } = mergeDomains(answers, command.fusion);
    const ranked = await adjustRanking(repository, merged, command, call.signal);
    const exhausted = answers.every((answer) => answer.exhausted);
    const tookMs = performance.now() - begin;
    const info: SearchInfo = {
      modeUsed: ranSemantic ? (ranText ? "hybrid" : "semantic") : "text",
      degraded,
      approximate: answers.some(({ semantic }) => semantic?.approximate === true),
      limitFilled: exhausted || ranked.length >= command.limit,
      textRanker: answers.find(({ text }) => text !== undefined)?.text?.ranker,
      embeddingVersion: versions.size === 1 ? [...versions][0] : undefined,
      mergedByRank: byRank,
      explanation: command.explain
        ? await explainSearch(repository, command, answers, tookMs, call.signal)
        : undefined,
    };
    return { ranked, exhausted, info };
  }

  return {
    async search(searchCommand, call) {
      const command = parseSearch(searchCommand);
      const { ranked, exhausted, info } = await rank(command, call);
      const hits: SearchHit[] = [];
      let bytes = 0;
      for await (const hit of readHits(repository, command, ranked, call.signal)) {
        bytes += sizeOf(hit);
        if (bytes > MAX_RESPONSE_BYTES) throw responseTooLarge();
        hits.push(hit);
      }
      return { hits, info: { ...info, limitFilled: exhausted || hits.length >= command.limit } };
    },

    async stream(searchCommand, call) {
      const command = parseSearch(searchCommand);
      const { ranked, info } = await rank(command, call);
      const progress = { sent: 0, skipped: 0 };
      return { info, hits: readHits(repository, command, ranked, call.signal, progress), progress };
    },
  };
}

function parseSearch(command: SearchCommand): ParsedSearch {
  return { ...command, terms: parseTextQuery(command.query) };
}

function sizeOf({ memory, snippet, preview }: SearchHit): number {
  const texts = [memory.content, memory.source, ...memory.tags, snippet.text, preview];
  return texts.reduce((sum, text) => sum + textBytes(text), HIT_BYTES + structBytes(memory.metadata));
}

/** @throws ServiceError if the semantic leg ran in no domain and the caller does not allow full-text search alone. */
function assertMayFallBack(
  command: SearchCommand,
  degraded: DegradedReason,
  answers: readonly DomainAnswer[],
): void {
  const [first] = answers;
  if (command.embedding !== undefined && first !== undefined) {
    assertCompatible(
      command.embedding,
      { embeddingVersion: first.version, dimensions: undefined },
      "query_embedding",
    );
  }
  if (!command.allowFallback) throw semanticSearchUnavailable(degraded);
}

function semanticSearchUnavailable(reason: DegradedReason): ServiceError {
  switch (reason) {
    case "query_not_embeddable": {
      const description =
        "cannot be embedded by the model; shorten it, or set allow_fallback to use full-text search";
      return new ServiceError("INVALID_ARGUMENT", `query: ${description}`, {
        violations: [{ field: "query", description }],
      });
    }
    case "embedder_unavailable":
      return new ServiceError(
        "EMBEDDER_UNAVAILABLE",
        "semantic search needs the embedder, which is unavailable; use hybrid search, or set allow_fallback",
        {
          retryAfterMs: RETRY_AFTER_MS,
        },
      );
    default:
      return new ServiceError(
        "EMBEDDER_UNAVAILABLE",
        "the domain has no embeddings of this server's model yet; they are being computed",
        { retryAfterMs: RETRY_AFTER_MS },
      );
  }
}

function responseTooLarge(): ServiceError {
  return new ServiceError(
    "RESPONSE_TOO_LARGE",
    "the response would exceed 4 MiB; lower the limit, set view to SNIPPET, or use StreamSearch",
    { metadata: { field: "view" } },
  );
}
