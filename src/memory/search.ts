import { EmbedError } from "../embedding/embedder.ts";
import { domainNotFound, ServiceError } from "../errors.ts";
import {
  type DomainRecord,
  type MemoryRepository,
  type Snippet,
  StaleDomainError,
  type TextRanker,
} from "../storage/memory-repository.ts";
import type { CallContext } from "./call-context.ts";
import { type ContentEmbedder, embedBudget, type QueryEmbedding, within } from "./content-embedder.ts";
import type { Filter } from "./filter.ts";
import { LIMITS } from "./limits.ts";
import type { Memory } from "./memory.ts";
import { structBytes, textBytes } from "./message-size.ts";
import { candidateDepth, fuse, type RankedHit, rankSemantic, rankText } from "./rank.ts";

export type SearchMode = "hybrid" | "semantic" | "text";

export interface SearchCommand {
  readonly domain: string;
  readonly query: string;
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
  readonly embeddingVersion: number | undefined;
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
/** Room for the rest of the answer below the usual maximum of a message. */
const MAX_RESPONSE_BYTES = LIMITS.messageBytes - 64 * 1024;
/** When the embedder is away, it is worth asking again after about its breaker's pause. */
const RETRY_AFTER_MS = 2_000;

export function createSearch(dependencies: {
  readonly repository: MemoryRepository;
  readonly contents: ContentEmbedder;
  readonly embedBudgetMs: number;
}): Search {
  const { repository, contents } = dependencies;

  /** The query in the domain's embedding version, or why there is none. */
  async function embedQuery(
    command: SearchCommand,
    domain: DomainRecord,
    call: CallContext,
  ): Promise<QueryEmbedding | DegradedReason> {
    const running = contents.of(domain).embedQuery(command.query, call.signal);
    running.catch(() => {});
    let query: QueryEmbedding | undefined;
    try {
      query = await within(running, embedBudget(dependencies.embedBudgetMs, call.remainingMs));
    } catch (error) {
      call.signal.throwIfAborted();
      if (!(error instanceof EmbedError)) throw error;
      if (error.kind === "too-long" || error.kind === "rejected") return "query_not_embeddable";
    }
    if (query === undefined) return "embedder_unavailable";
    if (query.version === domain.embeddingVersion) return query;
    // What is known of the domain may be seconds old: another server has perhaps moved it, or made it again.
    const now = await repository.readDomain(domain.name, call.signal);
    if (now?.embeddingVersion === undefined) return "no_embeddings";
    return query.version === now.embeddingVersion ? query : "embedding_version_mismatch";
  }

  async function rank(command: SearchCommand, call: CallContext) {
    try {
      return await rankOnce(command, call);
    } catch (error) {
      if (!(error instanceof StaleDomainError)) throw error;
      return await rankOnce(command, call);
    }
  }

  async function rankOnce(command: SearchCommand, call: CallContext) {
    const domain = await repository.findDomain(command.domain, call.signal);
    if (domain === undefined) throw domainNotFound(command.domain);
    const depth = candidateDepth(command.limit);
    const findText = () =>
      repository.searchText(
        domain.name,
        { query: command.query, depth, minScore: command.minTextScore, filter: command.filter },
        call.signal,
      );

    // Both legs at once: the words need not wait for the embedder.
    const textLeg = command.mode === "semantic" ? undefined : findText();
    textLeg?.catch(() => {});
    const query = command.mode === "text" ? undefined : await embedQuery(command, domain, call);

    if (query === undefined || typeof query === "string") {
      if (query !== undefined && !command.allowFallback) throw cannotSearchByMeaning(query);
      const text = await (textLeg ?? findText());
      return describe(command, rankText(text.candidates), text.exhausted, {
        modeUsed: "text",
        degraded: query,
        approximate: false,
        textRanker: text.ranker,
        embeddingVersion: undefined,
      });
    }

    const semantic = await repository.searchSemantic(
      domain.name,
      {
        embedding: query.vector,
        embeddingVersion: query.version,
        depth,
        minSimilarity: command.minSimilarity,
        filter: command.filter,
      },
      call.signal,
    );
    const text = await textLeg;
    const ranked =
      text === undefined ? rankSemantic(semantic.candidates) : fuse(semantic.candidates, text.candidates);
    const exhausted = semantic.exhausted && (text === undefined || text.exhausted);
    return describe(command, ranked, exhausted, {
      modeUsed: command.mode,
      degraded: undefined,
      approximate: semantic.approximate,
      textRanker: text?.ranker,
      embeddingVersion: query.version,
    });
  }

  /** Reads ranked memories until `limit` are there; one deleted since it was ranked makes room for the next. */
  async function* readHits(
    command: SearchCommand,
    ranked: readonly RankedHit[],
    signal: AbortSignal,
    progress = { sent: 0, skipped: 0 },
  ): AsyncGenerator<SearchHit> {
    const byId = new Map(ranked.map((hit) => [hit.id, hit]));
    let pageSize = FIRST_PAGE;
    for (let next = 0; next < ranked.length && progress.sent < command.limit; ) {
      const page = ranked.slice(next, next + Math.min(pageSize, command.limit - progress.sent));
      next += page.length;
      const fetched = await repository.fetch(command.domain, page, { content: command.content }, signal);
      progress.skipped += page.length - fetched.length;
      let bytes = 0;
      for (const { memory, preview, snippet } of fetched) {
        const hit = byId.get(memory.id);
        if (hit === undefined) continue;
        signal.throwIfAborted();
        bytes += Buffer.byteLength(memory.content) + HIT_BYTES;
        progress.sent++;
        yield { ...hit, memory, preview, snippet };
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

function describe(
  command: SearchCommand,
  ranked: RankedHit[],
  exhausted: boolean,
  info: Omit<SearchInfo, "limitFilled">,
) {
  return { ranked, exhausted, info: { ...info, limitFilled: exhausted || ranked.length >= command.limit } };
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
