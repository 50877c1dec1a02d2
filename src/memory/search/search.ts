import { setImmediate } from "node:timers/promises";
import { mapBounded } from "../../util/map-bounded.ts";
import type { ContentEmbedder } from "../embed/content-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import { assertUsed, type OwnEmbedding } from "../model/caller-embedding.ts";
import { ServiceError } from "../model/errors.ts";
import type { Filter } from "../model/filter.ts";
import { MAX_RESPONSE_BYTES } from "../model/limits.ts";
import type { Memory } from "../model/memory.ts";
import type { MemoryRepository, Snippet, TextRanker } from "../model/memory-repository.ts";
import { structBytes, textBytes } from "../read/message-size.ts";
import { type RankingOptions, rerank } from "./adjust-ranking.ts";
import { explainSearch, type SearchExplanation } from "./explain-search.ts";
import { hitKey, type RankedHit } from "./fuse-scores.ts";
import { mergeDomains } from "./merge-domains.ts";
import { createDomainSearch, type DomainAnswer, type QueryEmbeddings } from "./search-domain.ts";
import { createPlaceFinder, type FindPlace } from "./snippet.ts";

export type SearchMode = "hybrid" | "semantic" | "text";

export interface SearchCommand extends RankingOptions {
  /** Names of domains that must exist, none twice; or all that there are. */
  readonly domains: readonly string[] | "all";
  /** Of all domains, which the caller may know of; undefined: every one. */
  readonly mayRead?: ((domain: string) => boolean) | undefined;
  /** May be empty in semantic mode with an embedding. */
  readonly query: string;
  /** That of the query, of unit length, from a caller who embeds; undefined: the service makes it. */
  readonly embedding: OwnEmbedding | undefined;
  readonly limit: number;
  readonly mode: SearchMode;
  /** Whether text search may answer alone if the embedder cannot: by default in hybrid mode, not in semantic mode. */
  readonly allowFallback: boolean;
  /** Cosine similarity that semantic candidates must reach, -1 to 1. */
  readonly minSimilarity: number | undefined;
  /** Score that text candidates must reach, in the text ranker's scale. */
  readonly minTextScore: number | undefined;
  /** Which memories to consider; undefined: all. */
  readonly filter: Filter | undefined;
  /** False: contents are left out of the answer, snippets stay. */
  readonly content: boolean;
  /** Whether to tell how the answer came about in detail. */
  readonly explain: boolean;
}

/** Why meaning was left out. */
export type DegradedReason =
  | "embedder_unavailable"
  | "embedding_version_mismatch"
  | "no_embeddings"
  | "query_not_embeddable";

/** How an answer came about. */
export interface SearchInfo {
  readonly modeUsed: SearchMode;
  /** Set if the mode asked for could not be used. */
  readonly degraded: DegradedReason | undefined;
  /** True if some of the nearest may be missing beyond what the index always may miss. */
  readonly approximate: boolean;
  /** True if there are as many hits as asked for, or nothing else fits. */
  readonly limitFilled: boolean;
  /** What ranked the words; undefined if they were not searched. */
  readonly textRanker: TextRanker | undefined;
  /** The embedding version that was compared; undefined: none, or several. */
  readonly embeddingVersion: number | undefined;
  /** Whether ranks of several domains were put together because their scores cannot be compared. */
  readonly mergedByRank: boolean;
  /** Undefined unless asked for. */
  readonly explanation: SearchExplanation | undefined;
}

export interface SearchHit extends RankedHit {
  readonly memory: Memory;
  /** Beginning of the content where the content itself is left out; "" otherwise. */
  readonly preview: string;
  readonly snippet: Snippet;
}

/** How far a stream has come. `skipped`: ranked, but deleted or expired before it could be sent. */
export interface StreamProgress {
  readonly sent: number;
  readonly skipped: number;
}

export interface Search {
  /** @throws ServiceError DOMAIN_NOT_FOUND, EMBEDDER_UNAVAILABLE, RESPONSE_TOO_LARGE */
  search(
    command: SearchCommand,
    call: CallContext,
  ): Promise<{ readonly hits: SearchHit[]; readonly info: SearchInfo }>;
  /** Ranks first; then reads hits page by page as the consumer asks for them. Nothing is held in between. */
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

/** A page aims at this many bytes of contents, so that a slow consumer of long memories costs little memory. */
const PAGE_BYTES = 1024 * 1024;
const FIRST_PAGE = 100;
const MAX_PAGE = 200;
/** What a hit weighs beside its content, roughly: ids, times, scores. */
const HIT_BYTES = 512;
/** UTF-16 code units of a text in which finding words takes milliseconds. */
const LONG_TEXT = 8_192;
/** A search in many domains takes turns with other calls for the connections: each domain may need two. */
const DOMAINS_AT_ONCE = 2;
/** When the embedder is away, it is worth asking again after about its breaker's pause. */
const RETRY_AFTER_MS = 2_000;

export function createSearch(dependencies: {
  readonly repository: MemoryRepository;
  readonly contents: ContentEmbedder;
  readonly embedBudgetMs: number;
}): Search {
  const { repository } = dependencies;

  const findInDomain = createDomainSearch(dependencies);

  async function rank(command: SearchCommand, call: CallContext) {
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
        // Dropped since the domains were listed.
        if (all && error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND") return undefined;
        throw error;
      }
    });
    const answers = found.filter((answer) => answer !== undefined);
    const degraded = answers.find((answer) => answer.degraded !== undefined)?.degraded;
    const byMeaning = answers.some(({ semantic }) => semantic !== undefined);
    if (degraded !== undefined && !byMeaning) assertMayFallBack(command, degraded, answers);
    const byWords = answers.some(({ text }) => text !== undefined);
    const versions = new Set(answers.flatMap(({ semantic }) => (semantic ? [semantic.version] : [])));
    const { ranked: merged, byRank } = mergeDomains(answers, command.fusion);
    const ranked = await rerank(repository, merged, command, call.signal);
    const exhausted = answers.every((answer) => answer.exhausted);
    const tookMs = performance.now() - begin;
    const info: SearchInfo = {
      modeUsed: byMeaning ? (byWords ? "hybrid" : "semantic") : "text",
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

  /** Reads hits in their order, each in its domain; those that are gone are missing. */
  async function fetchPage(
    page: readonly RankedHit[],
    content: boolean,
    findPlace: FindPlace,
    signal: AbortSignal,
  ): Promise<SearchHit[]> {
    const byDomain = Map.groupBy(page, ({ domain }) => domain);
    const fetched = await mapBounded([...byDomain], DOMAINS_AT_ONCE, ([domain, hits]) =>
      repository.fetch(domain, hits, { content }, signal),
    );
    const byKey = new Map(fetched.flat().map((found) => [hitKey(found.memory), found]));
    const hits: SearchHit[] = [];
    for (const hit of page) {
      const found = byKey.get(hitKey(hit));
      if (found === undefined) continue;
      const { memory, preview, surroundings } = found;
      const place = surroundings && findPlace(surroundings);
      hits.push({ ...hit, memory, preview, snippet: place ?? found.snippet });
      // Others go on between two long ones.
      if (surroundings !== undefined && surroundings.text.length > LONG_TEXT) await setImmediate();
      signal.throwIfAborted();
    }
    return hits;
  }

  /** Reads ranked memories until `limit` are there; one deleted since it was ranked makes room for the next. */
  async function* readHits(
    command: SearchCommand,
    ranked: readonly RankedHit[],
    signal: AbortSignal,
    progress = { sent: 0, skipped: 0 },
  ): AsyncGenerator<SearchHit> {
    const findPlace = createPlaceFinder(command.query);
    let pageSize = FIRST_PAGE;
    for (let next = 0; next < ranked.length && progress.sent < command.limit; ) {
      const page = ranked.slice(next, next + Math.min(pageSize, command.limit - progress.sent));
      next += page.length;
      const fetched = await fetchPage(page, command.content, findPlace, signal);
      progress.skipped += page.length - fetched.length;
      let bytes = 0;
      for (const hit of fetched) {
        signal.throwIfAborted();
        bytes += Buffer.byteLength(hit.memory.content) + HIT_BYTES;
        progress.sent++;
        yield hit;
      }
      const bytesPerHit = Math.max(bytes / Math.max(fetched.length, 1), HIT_BYTES);
      pageSize = Math.max(1, Math.min(MAX_PAGE, Math.floor(PAGE_BYTES / bytesPerHit)));
    }
  }

  return {
    async search(command, call) {
      const { ranked, exhausted, info } = await rank(command, call);
      const hits: SearchHit[] = [];
      let bytes = 0;
      for await (const hit of readHits(command, ranked, call.signal)) {
        bytes += sizeOf(hit);
        if (bytes > MAX_RESPONSE_BYTES) throw responseTooLarge();
        hits.push(hit);
      }
      return { hits, info: { ...info, limitFilled: exhausted || hits.length >= command.limit } };
    },

    async stream(command, call) {
      const { ranked, info } = await rank(command, call);
      const progress = { sent: 0, skipped: 0 };
      return { info, hits: readHits(command, ranked, call.signal, progress), progress };
    },
  };
}

function sizeOf({ memory, snippet, preview }: SearchHit): number {
  const texts = [memory.content, memory.source, ...memory.tags, snippet.text, preview];
  return texts.reduce((sum, text) => sum + textBytes(text), HIT_BYTES + structBytes(memory.metadata));
}

/** @throws ServiceError if no domain could be searched by meaning, and the caller wants nothing else */
function assertMayFallBack(
  command: SearchCommand,
  degraded: DegradedReason,
  answers: readonly DomainAnswer[],
): void {
  const [first] = answers;
  if (command.embedding !== undefined && first !== undefined) {
    assertUsed(
      command.embedding,
      { embeddingVersion: first.version, dimensions: undefined },
      "query_embedding",
    );
  }
  if (!command.allowFallback) throw cannotSearchByMeaning(degraded);
}

function cannotSearchByMeaning(reason: DegradedReason): ServiceError {
  switch (reason) {
    case "query_not_embeddable": {
      const description = "cannot be embedded by the model; shorten it, or allow the fallback to text search";
      return new ServiceError("INVALID_ARGUMENT", `query: ${description}`, {
        violations: [{ field: "query", description }],
      });
    }
    case "embedder_unavailable":
      return new ServiceError(
        "EMBEDDER_UNAVAILABLE",
        "semantic search needs the embedder, which is away now: use hybrid search, or set allow_fallback",
        {
          retryAfterMs: RETRY_AFTER_MS,
        },
      );
    default:
      return new ServiceError(
        "EMBEDDER_UNAVAILABLE",
        "the domain has no embeddings of this server's model yet; they are being made",
        { retryAfterMs: RETRY_AFTER_MS },
      );
  }
}

function responseTooLarge(): ServiceError {
  return new ServiceError(
    "RESPONSE_TOO_LARGE",
    "the answer would exceed 4 MiB: ask for fewer hits, set view to SNIPPET, or use StreamSearch",
    { metadata: { field: "view" } },
  );
}
