import { create } from "@bufbuild/protobuf";
import { View } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  type Ranking,
  type SearchHit,
  SearchHitSchema,
  type SearchInfo,
  SearchInfo_DegradedReason,
  type SearchInfo_Explanation,
  SearchInfo_Explanation_SemanticScan,
  SearchInfo_ExplanationSchema,
  SearchInfo_TextRanker,
  SearchInfoSchema,
  SearchMode,
  type SearchRequest,
  type StreamSearchRequest,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { assertNoViolations, type FieldViolation } from "../../memory/model/errors.ts";
import { DEFAULT_LIMIT, DEFAULT_STREAM_LIMIT, LIMITS } from "../../memory/model/limits.ts";
import type { SemanticScan, TextRanker } from "../../memory/model/search-index.ts";
import type { RankingOptions } from "../../memory/search/adjust-ranking.ts";
import { NO_BOOST } from "../../memory/search/boost.ts";
import type { SearchExplanation } from "../../memory/search/explain-search.ts";
import { DEFAULT_FUSION } from "../../memory/search/fuse-scores.ts";
import type { SearchHit as Hit } from "../../memory/search/read-hits.ts";
import type { SearchInfo as Info } from "../../memory/search/search.ts";
import type { DegradedReason, SearchCommand } from "../../memory/search/search-command.ts";
import {
  durationFromMicroseconds,
  durationFromMilliseconds,
  microsecondsFromDuration,
} from "../../util/proto-time.ts";
import { embeddingFromMessage } from "./fields/embedding.ts";
import { hasValidNanos } from "./fields/expiry.ts";
import { filterFromMessage } from "./fields/filter.ts";
import { messageFromMemory } from "./fields/memory.ts";
import {
  all,
  bytesAtMost,
  domainName,
  integerBetween,
  knownEnum,
  meaningfulText,
  mustBeSet,
  numberAtLeast,
  numberBetween,
  type Rules,
  storableText,
  violationsOf,
  whenSet,
} from "./validate.ts";

/** The two requests differ only in the maximum of `limit`; a test compares their descriptors. */
type AnySearchRequest = Omit<SearchRequest, "$typeName"> | Omit<StreamSearchRequest, "$typeName">;

function rulesFor(maxLimit: number): Rules<AnySearchRequest> {
  return {
    query: all(bytesAtMost(LIMITS.queryBytes), meaningfulText, storableText),
    domain: domainName,
    limit: whenSet(integerBetween(1, maxLimit)),
    mode: knownEnum(SearchMode),
    minSimilarity: whenSet(numberBetween(-1, 1)),
    minTextScore: whenSet(numberAtLeast(0)),
    view: knownEnum(View),
  };
}

const bounds = {
  search: { rules: rulesFor(LIMITS.searchLimit), defaultLimit: DEFAULT_LIMIT },
  stream: { rules: rulesFor(LIMITS.streamLimit), defaultLimit: DEFAULT_STREAM_LIMIT },
} as const;

/** @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule. */
export function searchCommandFromRequest(
  request: AnySearchRequest,
  kind: keyof typeof bounds,
  defaultDomain: string,
): SearchCommand {
  const { rules, defaultLimit } = bounds[kind];
  const { queryEmbedding } = request;
  const violations = violationsOf(request, rules).filter(({ field }) => {
    const mayBeEmpty = request.mode === SearchMode.SEMANTIC && queryEmbedding !== undefined;
    return !(field === "query" && request.query === "" && mayBeEmpty);
  });
  violations.push(...domainViolations(request));
  if (queryEmbedding !== undefined && request.mode === SearchMode.TEXT) {
    violations.push({ field: "query_embedding", description: "must not be set in SEARCH_MODE_TEXT" });
  }
  const embedding = queryEmbedding && embeddingFromMessage(queryEmbedding, "query_embedding", violations);
  violations.push(...rankingViolations(request.ranking));
  const filter = request.filter && filterFromMessage(request.filter, "filter", violations);
  assertNoViolations(violations);
  const mode = modeOf[request.mode];
  return {
    domains: domainsFrom(request, defaultDomain),
    query: request.query,
    embedding,
    limit: request.limit ?? defaultLimit,
    mode,
    allowFallback: request.allowFallback ?? mode === "hybrid",
    minSimilarity: request.minSimilarity,
    minTextScore: request.minTextScore,
    filter,
    ...rankingFrom(request.ranking),
    content: request.view !== View.SNIPPET,
    explain: request.explain,
  };
}

function domainViolations({ domain, domains, allDomains }: AnySearchRequest): FieldViolation[] {
  const violations: FieldViolation[] = [];
  if (domains.length > LIMITS.searchDomains) {
    const description = `must have at most ${LIMITS.searchDomains} names, has ${domains.length}`;
    violations.push({ field: "domains", description });
  } else {
    for (const [index, name] of domains.entries()) {
      const description =
        mustBeSet(name) ??
        domainName(name) ??
        (domains.indexOf(name) < index ? `must not be named twice, got "${name}"` : undefined);
      if (description !== undefined) violations.push({ field: `domains[${index}]`, description });
    }
  }
  if (domains.length > 0 && domain !== "") {
    violations.push({ field: "domains", description: "must not be set together with domain" });
  }
  if (allDomains && (domain !== "" || domains.length > 0)) {
    const description = `must not be set together with ${domain !== "" ? "domain" : "domains"}`;
    violations.push({ field: "all_domains", description });
  }
  return violations;
}

const rankingRules: Rules<Ranking> = {
  textWeight: whenSet(numberBetween(0, LIMITS.rankingWeight)),
  semanticWeight: whenSet(numberBetween(0, LIMITS.rankingWeight)),
  k: whenSet(integerBetween(1, LIMITS.rankingK)),
  halfLife: whenSet((halfLife) =>
    hasValidNanos(halfLife) && halfLife.seconds >= LIMITS.halfLifeSeconds
      ? undefined
      : `must be at least ${LIMITS.halfLifeSeconds} second`,
  ),
  importanceWeight: whenSet(numberBetween(0, LIMITS.importanceWeight)),
  diversity: whenSet(numberBetween(0, 1)),
};

function rankingViolations(ranking: Ranking | undefined): FieldViolation[] {
  if (ranking === undefined) return [];
  const violations = violationsOf(ranking, rankingRules, "ranking.");
  const { textWeight, semanticWeight } = rankingFrom(ranking).fusion;
  if (textWeight === 0 && semanticWeight === 0) {
    violations.push({
      field: "ranking.text_weight",
      description: "must not be 0 together with semantic_weight",
    });
  }
  return violations;
}

function rankingFrom(ranking: Ranking | undefined): RankingOptions {
  return {
    fusion: {
      textWeight: ranking?.textWeight ?? DEFAULT_FUSION.textWeight,
      semanticWeight: ranking?.semanticWeight ?? DEFAULT_FUSION.semanticWeight,
      k: ranking?.k,
    },
    boost: {
      halfLife: ranking?.halfLife && microsecondsFromDuration(ranking.halfLife),
      importanceWeight: ranking?.importanceWeight ?? NO_BOOST.importanceWeight,
    },
    diversity: ranking?.diversity ?? 0,
  };
}

function domainsFrom(
  { domain, domains, allDomains }: AnySearchRequest,
  defaultDomain: string,
): SearchCommand["domains"] {
  if (allDomains) return "all";
  return domains.length > 0 ? domains : [domain || defaultDomain];
}

export function messageFromHit(hit: Hit): SearchHit {
  return create(SearchHitSchema, {
    memory: messageFromMemory(hit.memory, hit.preview),
    score: hit.score,
    parts: {
      ...(hit.similarity === undefined ? {} : { similarity: hit.similarity }),
      ...(hit.textScore === undefined ? {} : { textScore: hit.textScore }),
      ...(hit.semanticRank === undefined ? {} : { semanticRank: hit.semanticRank }),
      ...(hit.textRank === undefined ? {} : { textRank: hit.textRank }),
      ...(hit.recency === undefined ? {} : { recency: hit.recency }),
      ...(hit.importance === undefined ? {} : { importance: hit.importance }),
    },
    ...(hit.chunkIndex === undefined ? {} : { chunkIndex: hit.chunkIndex }),
    snippet: {
      text: hit.snippet.text,
      startOffset: hit.snippet.start,
      endOffset: hit.snippet.end,
    },
  });
}

export function messageFromInfo(info: Info): SearchInfo {
  return create(SearchInfoSchema, {
    modeUsed: messageOfMode[info.modeUsed],
    degraded: info.degraded !== undefined,
    degradedReason:
      info.degraded === undefined ? SearchInfo_DegradedReason.UNSPECIFIED : messageOfReason[info.degraded],
    approximate: info.approximate,
    limitFilled: info.limitFilled,
    textRanker:
      info.textRanker === undefined
        ? SearchInfo_TextRanker.UNSPECIFIED
        : messageOfTextRanker[info.textRanker],
    embeddingVersion: info.embeddingVersion ?? 0,
    mergedByRank: info.mergedByRank,
    ...(info.explanation === undefined ? {} : { explanation: messageFromExplanation(info.explanation) }),
  });
}

function messageFromExplanation(explanation: SearchExplanation): SearchInfo_Explanation {
  const { fusion, boost, diversity } = explanation.ranking;
  return create(SearchInfo_ExplanationSchema, {
    ranking: {
      textWeight: fusion.textWeight,
      semanticWeight: fusion.semanticWeight,
      ...(fusion.k === undefined ? {} : { k: fusion.k }),
      ...(boost.halfLife === undefined ? {} : { halfLife: durationFromMicroseconds(boost.halfLife) }),
      importanceWeight: boost.importanceWeight,
      diversity,
    },
    semanticScan:
      explanation.semanticScan === undefined
        ? SearchInfo_Explanation_SemanticScan.UNSPECIFIED
        : messageOfScan[explanation.semanticScan],
    semanticCandidates: explanation.semanticCandidates,
    textCandidates: explanation.textCandidates,
    queryTerms: [...explanation.queryTerms],
    embedDuration: durationFromMilliseconds(explanation.embedMs),
    rankDuration: durationFromMilliseconds(explanation.rankMs),
  });
}

const modeOf = {
  [SearchMode.UNSPECIFIED]: "hybrid",
  [SearchMode.HYBRID]: "hybrid",
  [SearchMode.SEMANTIC]: "semantic",
  [SearchMode.TEXT]: "text",
} as const satisfies Record<SearchMode, SearchCommand["mode"]>;

const messageOfMode = {
  hybrid: SearchMode.HYBRID,
  semantic: SearchMode.SEMANTIC,
  text: SearchMode.TEXT,
} as const satisfies Record<SearchCommand["mode"], SearchMode>;

const messageOfReason = {
  embedder_unavailable: SearchInfo_DegradedReason.EMBEDDER_UNAVAILABLE,
  embedding_version_mismatch: SearchInfo_DegradedReason.EMBEDDING_VERSION_MISMATCH,
  no_embeddings: SearchInfo_DegradedReason.NO_EMBEDDINGS,
  query_not_embeddable: SearchInfo_DegradedReason.QUERY_NOT_EMBEDDABLE,
} as const satisfies Record<DegradedReason, SearchInfo_DegradedReason>;

const messageOfScan = {
  exact: SearchInfo_Explanation_SemanticScan.EXACT,
  index: SearchInfo_Explanation_SemanticScan.INDEX,
} as const satisfies Record<SemanticScan, SearchInfo_Explanation_SemanticScan>;

/** Enum values of the text rankers. */
export const messageOfTextRanker = {
  bm25_index: SearchInfo_TextRanker.BM25_INDEX,
  bm25_sql: SearchInfo_TextRanker.BM25_SQL,
} as const satisfies Record<TextRanker, SearchInfo_TextRanker>;
