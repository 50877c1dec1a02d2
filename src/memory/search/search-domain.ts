import { EmbedError } from "../../embedding/embedder.ts";
import { within } from "../../util/wait.ts";
import { type ContentEmbedder, embedBudget, type QueryEmbedding } from "../embed/content-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import { assertUsed } from "../model/caller-embedding.ts";
import { domainNotFound } from "../model/errors.ts";
import {
  type DomainRecord,
  type MemoryRepository,
  type SemanticAnswer,
  StaleDomainError,
  type TextRanker,
} from "../model/memory-repository.ts";
import { candidateDepth, type PlacedCandidate } from "./fuse-scores.ts";
import type { DomainLegs } from "./merge-domains.ts";
import type { DegradedReason, SearchCommand } from "./search.ts";

/** What one domain has answered. */
export interface DomainAnswer extends DomainLegs {
  readonly semantic:
    | (Pick<SemanticAnswer, "approximate" | "scan"> & {
        readonly candidates: readonly PlacedCandidate[];
        readonly version: number;
      })
    | undefined;
  readonly text: { readonly candidates: readonly PlacedCandidate[]; readonly ranker: TextRanker } | undefined;
  /** Why it was not searched by meaning, though that was asked for. */
  readonly degraded: DegradedReason | undefined;
  /** Whether nothing else fits. */
  readonly exhausted: boolean;
  /** The embedding version it uses. */
  readonly version: number | undefined;
  /** How long it waited for the embedding of the query, in milliseconds. */
  readonly embedMs: number;
}

/** Embeddings of the query by what makes them: domains of the same model share one. */
export type QueryEmbeddings = Map<ContentEmbedder, Promise<QueryEmbedding | DegradedReason>>;

export type DomainSearch = (
  command: SearchCommand,
  name: string,
  embeddings: QueryEmbeddings,
  call: CallContext,
) => Promise<DomainAnswer>;

/** Searches one domain by words and by meaning. */
export function createDomainSearch(dependencies: {
  readonly repository: MemoryRepository;
  readonly contents: ContentEmbedder;
  readonly embedBudgetMs: number;
}): DomainSearch {
  const { repository, contents } = dependencies;

  async function embedInTime(
    maker: ContentEmbedder,
    query: string,
    call: CallContext,
  ): Promise<QueryEmbedding | DegradedReason> {
    const running = maker.embedQuery(query, call.signal);
    running.catch(() => {});
    try {
      const made = await within(running, embedBudget(dependencies.embedBudgetMs, call.remainingMs));
      return made ?? "embedder_unavailable";
    } catch (error) {
      call.signal.throwIfAborted();
      if (!(error instanceof EmbedError)) throw error;
      return error.kind === "too-long" || error.kind === "rejected"
        ? "query_not_embeddable"
        : "embedder_unavailable";
    }
  }

  /** The query in the domain's embedding version, or why there is none. */
  async function embedQuery(
    command: SearchCommand,
    domain: DomainRecord,
    embeddings: QueryEmbeddings,
    call: CallContext,
  ): Promise<QueryEmbedding | DegradedReason> {
    const maker = contents.of(domain);
    let making = embeddings.get(maker);
    if (command.embedding !== undefined) making = Promise.resolve(command.embedding);
    if (making === undefined) {
      making = embedInTime(maker, command.query, call);
      embeddings.set(maker, making);
    }
    const query = await making;
    if (typeof query === "string") return query;
    // What is known of the domain may be seconds old: another server has perhaps moved it, or made it again.
    const now =
      query.version === domain.embeddingVersion
        ? domain
        : await repository.readDomain(domain.name, call.signal);
    if (now?.embeddingVersion === undefined) return "no_embeddings";
    if (query.version !== now.embeddingVersion) return "embedding_version_mismatch";
    if (command.embedding !== undefined) assertUsed(command.embedding, now, "query_embedding");
    return query;
  }

  async function findOnce(
    command: SearchCommand,
    name: string,
    embeddings: QueryEmbeddings,
    call: CallContext,
  ): Promise<DomainAnswer> {
    const domain = await repository.findDomain(name, call.signal);
    if (domain === undefined) throw domainNotFound(name);
    const { mode, filter } = command;
    const depth = candidateDepth(command.limit);
    const place = (candidates: SemanticAnswer["candidates"]) =>
      candidates.map((candidate) => ({ ...candidate, domain: name }));
    const findText = async () => {
      const answer = await repository.searchText(
        name,
        { query: command.query, depth, minScore: command.minTextScore, filter },
        call.signal,
      );
      return { ...answer, candidates: place(answer.candidates) };
    };

    // Both legs at once: the words need not wait for the embedder.
    const textLeg = mode === "semantic" ? undefined : findText();
    textLeg?.catch(() => {});
    const begin = performance.now();
    const query = mode === "text" ? undefined : await embedQuery(command, domain, embeddings, call);
    const embedMs = performance.now() - begin;
    if (query === undefined || typeof query === "string") {
      const wordsOnly = query === undefined || command.allowFallback;
      const text = wordsOnly ? await (textLeg ?? findText()) : undefined;
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
      semantic: { candidates: place(semantic.candidates), scan, approximate, version },
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
