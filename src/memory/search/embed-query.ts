import { within } from "../../util/wait.ts";
import { type ContentEmbedder, embedBudget, type QueryEmbedding } from "../embed/content-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import { assertCompatible } from "../model/caller-embedding.ts";
import type { DomainRecord } from "../model/domain.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { EmbedError } from "../model/embedder.ts";
import type { DegradedReason, SearchCommand } from "./search-command.ts";

/** Embeddings of the query by embedder, so that domains with the same model share one. */
export type QueryEmbeddings = Map<ContentEmbedder, Promise<QueryEmbedding | DegradedReason>>;

/** Returns the query's embedding in the domain's embedding version, or why there is none. */
export type EmbedQuery = (
  command: Pick<SearchCommand, "query" | "embedding">,
  domain: DomainRecord,
  embeddings: QueryEmbeddings,
  call: CallContext,
) => Promise<QueryEmbedding | DegradedReason>;

export function createQueryEmbedder(dependencies: {
  readonly repository: Pick<DomainStore, "readDomain">;
  readonly contents: ContentEmbedder;
  readonly embedBudgetMs: number;
}): EmbedQuery {
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

  return async (command, domain, embeddings, call) => {
    const maker = contents.of(domain);
    let making = embeddings.get(maker);
    if (command.embedding !== undefined) making = Promise.resolve(command.embedding);
    if (making === undefined) {
      making = embedInTime(maker, command.query, call);
      embeddings.set(maker, making);
    }
    const query = await making;
    if (typeof query === "string") return query;
    // The cached domain may be seconds old: another server may have moved it to another model, or recreated it.
    const now =
      query.version === domain.embeddingVersion
        ? domain
        : await repository.readDomain(domain.name, call.signal);
    if (now?.embeddingVersion === undefined) return "no_embeddings";
    if (query.version !== now.embeddingVersion) return "embedding_version_mismatch";
    if (command.embedding !== undefined) assertCompatible(command.embedding, now, "query_embedding");
    return query;
  };
}
