import { setTimeout as sleep } from "node:timers/promises";
import { View } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  EmbeddingMode,
  type Ranking,
  type SearchInfo,
  SearchInfo_DegradedReason,
  SearchInfo_TextRanker,
  SearchMode,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { StartupError } from "../../src/util/startup-error.ts";
import { createMemoryClient, type MemoryClient } from "../client.ts";
import { type Collection, type CollectionQuery, domainName, memoryId } from "../collection.ts";
import type { Engine } from "../engines.ts";
import { measureLoad } from "../measure.ts";
import { startServer } from "../processes.ts";
import { createRandom } from "../texts.ts";
import {
  CUTOFF,
  type Difference,
  mean,
  ndcg,
  pairedDifference,
  recall,
  reciprocalRank,
  sessionFound,
} from "./metrics.ts";

export type ModeName = "text" | "semantic" | "hybrid";

export interface EvaluationOptions {
  readonly engine: Engine;
  readonly collection: Collection;
  readonly modes: readonly ModeName[];
  /** Base URL of Ollama or a compatible server. Not used for full-text search alone. */
  readonly embedderUrl: string;
  readonly model: string;
  /** The `ranking` of every search; undefined uses the server's defaults. */
  readonly ranking: Partial<Pick<Ranking, "textWeight" | "semanticWeight" | "k">> | undefined;
  /** Puts all scopes into one domain, to measure the effect of separating them. */
  readonly oneDomain: boolean;
  readonly progress: (line: string) => void;
}

/** Means over all queries of a collection. */
export interface Figures {
  readonly "ndcg@10": number;
  readonly "recall@10": number;
  readonly "mrr@10": number;
  /** Queries without a hit. */
  readonly empty: number;
  /** For ids with sessions (`session:turn`): share of queries with a hit from the session of a right document. */
  readonly "session@10"?: number;
}

export interface ModeFigures extends Figures {
  readonly queries: number;
  readonly categories?: Readonly<Record<string, Figures & { readonly queries: number }>>;
}

export type Evaluation = {
  readonly collection: string;
  readonly sha256: Collection["sha256"];
  readonly documents: number;
  /** Documents that the service refused (empty ones), by its reason. */
  readonly refused: Readonly<Record<string, number>>;
  readonly domains: number;
  /** Null for full-text search alone. */
  readonly model: string | null;
  readonly engine: string;
  readonly settings: {
    readonly limit: number;
    readonly textRanker: string;
    readonly ranking: EvaluationOptions["ranking"] | null;
  };
  /** Improvement of hybrid search over each leg, with the 95 % interval of a paired bootstrap. */
  readonly differences?: Readonly<Record<string, Readonly<Record<"ndcg@10" | "recall@10", Difference>>>>;
} & { readonly [mode in ModeName]?: ModeFigures };

const modes = {
  text: SearchMode.TEXT,
  semantic: SearchMode.SEMANTIC,
  hybrid: SearchMode.HYBRID,
} as const satisfies Record<ModeName, SearchMode>;

const STORE_CALLERS = 16;
const SEARCH_CALLERS = 2;
/** A server recounts a domain every few seconds. */
const POLL_MS = 2_000;
/** An embedder without progress for this long has failed. */
const PATIENCE_MS = 120_000;
/** Maximum wait of the server for a query's embedding: the evaluation judges results, not speed. */
const EMBED_BUDGET_MS = "60000";
/** Nothing listens on this address: full-text search alone needs no embedder. */
const NO_EMBEDDER = "http://127.0.0.1:1";

/**
 * Stores a collection through the public API of a new server, runs all its queries in each mode and evaluates the
 * answers.
 *
 * @throws StartupError if the embedder is needed and does not embed.
 */
export async function evaluate(options: EvaluationOptions): Promise<Evaluation> {
  const { collection, engine, progress } = options;
  const needsEmbedder = options.modes.some((mode) => mode !== "text");
  await using cleanup = new AsyncDisposableStack();
  const server = cleanup.adopt(
    await startServer({
      ...engine.environment,
      OLLAMA_API_URL: needsEmbedder ? options.embedderUrl : NO_EMBEDDER,
      OLLAMA_EMBEDDING_MODEL: options.model,
      MEMORY_EMBED_BUDGET_MS: EMBED_BUDGET_MS,
    }),
    (program) => program.stop(),
  );
  const client = cleanup.adopt(createMemoryClient(server.url), (open) => open.close());
  const domainOf = (scope: string) => (options.oneDomain ? "everything" : domainName(collection.name, scope));

  progress(`${collection.name}: storing ${collection.documents.length} documents`);
  const domains = [...new Set(collection.documents.map(({ scope }) => domainOf(scope)))];
  const embeddingMode = needsEmbedder ? EmbeddingMode.INLINE : EmbeddingMode.BACKGROUND;
  const { refused, ids } = await store(client, collection, domainOf, embeddingMode);
  if (needsEmbedder) await untilEmbedded(client, domains, progress);

  const scores = new Map<ModeName, Score[]>();
  let info: SearchInfo | undefined;
  for (const mode of options.modes) {
    progress(`${collection.name}: running ${collection.queries.length} queries, ${mode}`);
    const answers = await ask(client, options, domainOf, mode);
    info = answers.info ?? info;
    scores.set(
      mode,
      collection.queries.map((query, n) => judge(query, answers.hits[n] ?? [], ids)),
    );
  }
  return {
    collection: collection.name,
    sha256: collection.sha256,
    documents: collection.documents.length,
    refused,
    domains: domains.length,
    model: needsEmbedder ? options.model : null,
    engine: engine.name,
    settings: {
      limit: CUTOFF,
      textRanker: info === undefined ? "none" : SearchInfo_TextRanker[info.textRanker],
      ranking: options.ranking ?? null,
    },
    ...Object.fromEntries([...scores].map(([mode, list]) => [mode, figuresByCategory(list)])),
    ...differencesOf(scores),
  };
}

async function store(
  client: MemoryClient,
  collection: Collection,
  domainOf: (scope: string) => string,
  embeddingMode: EmbeddingMode,
) {
  const refused: Record<string, number> = {};
  const ids = new Map<string, string>();
  await measureLoad({
    callers: STORE_CALLERS,
    calls: collection.documents.length,
    call: async (n) => {
      const document = collection.documents[n];
      if (document === undefined) throw new RangeError(`no document ${n}`);
      const id = memoryId(document.id);
      ids.set(id, document.id);
      await client.store({ domain: domainOf(document.scope), id, content: document.text, embeddingMode });
    },
    onFailure: (error) => {
      const reason = error instanceof Error ? error.message : String(error);
      refused[reason] = (refused[reason] ?? 0) + 1;
    },
  });
  return { refused, ids };
}

async function untilEmbedded(
  client: MemoryClient,
  domains: readonly string[],
  progress: (line: string) => void,
): Promise<void> {
  let last = { pending: Number.POSITIVE_INFINITY, since: performance.now() };
  for (;;) {
    const states = await Promise.all(domains.map((name) => client.getDomain({ name })));
    const sum = (key: "pendingCount" | "failedCount") =>
      states.reduce((count, { domain }) => count + Number(domain?.[key] ?? 0), 0);
    const [pending, failed] = [sum("pendingCount"), sum("failedCount")];
    if (failed > 0) throw new StartupError(`${failed} documents cannot be embedded`);
    if (pending === 0) return;
    if (pending < last.pending) last = { pending, since: performance.now() };
    else if (performance.now() - last.since > PATIENCE_MS) {
      throw new StartupError(`the embedder has completed none of ${pending} embeddings for two minutes`, {
        remedy: "look whether it runs and has the model (--embedder, --model)",
      });
    }
    progress(`${pending} embeddings are pending`);
    await sleep(POLL_MS);
  }
}

async function ask(
  client: MemoryClient,
  { collection, ranking }: EvaluationOptions,
  domainOf: (scope: string) => string,
  mode: ModeName,
) {
  const hits: string[][] = [];
  let info: SearchInfo | undefined;
  await measureLoad({
    callers: SEARCH_CALLERS,
    calls: collection.queries.length,
    call: async (n) => {
      const query = collection.queries[n];
      if (query === undefined) throw new RangeError(`no query ${n}`);
      const answer = await client.search({
        domain: domainOf(query.scope),
        query: query.text,
        limit: CUTOFF,
        mode: modes[mode],
        view: View.SNIPPET,
        ...(ranking === undefined ? {} : { ranking }),
      });
      if (answer.info?.degraded === true) {
        throw new StartupError(
          `query ${query.id} was answered without its meaning: ${reasonOf(answer.info)}`,
        );
      }
      info = answer.info;
      hits[n] = answer.hits.map((hit) => hit.memory?.id ?? "");
    },
  });
  return { hits, info };
}

function reasonOf(info: SearchInfo): string {
  return SearchInfo_DegradedReason[info.degradedReason].toLowerCase().replaceAll("_", " ");
}

interface Score {
  readonly category: string | undefined;
  readonly ndcg: number;
  readonly recall: number;
  readonly reciprocalRank: number;
  readonly session: number | undefined;
  readonly empty: boolean;
}

function judge(query: CollectionQuery, hits: readonly string[], ids: ReadonlyMap<string, string>): Score {
  const found = hits.map((id) => ids.get(id) ?? id);
  const relevant = new Set(query.relevant);
  const hasSessions = query.relevant.length > 0 && query.relevant.every((id) => id.includes(":"));
  return {
    category: query.category,
    ndcg: ndcg(found, relevant),
    recall: recall(found, relevant),
    reciprocalRank: reciprocalRank(found, relevant),
    session: hasSessions ? sessionFound(found, relevant) : undefined,
    empty: hits.length === 0,
  };
}

function figuresByCategory(scores: readonly Score[]): ModeFigures {
  const categories = [...new Set(scores.map(({ category }) => category))].sort();
  const all = { queries: scores.length, ...figuresOf(scores) };
  if (categories.length < 2) return all;
  return {
    ...all,
    categories: Object.fromEntries(
      categories.map((category) => {
        const some = scores.filter((score) => score.category === category);
        return [category ?? "none", { queries: some.length, ...figuresOf(some) }];
      }),
    ),
  };
}

function figuresOf(scores: readonly Score[]): Figures {
  const sessions = scores.flatMap(({ session }) => (session === undefined ? [] : [session]));
  return {
    "ndcg@10": mean(scores.map((score) => score.ndcg)),
    "recall@10": mean(scores.map((score) => score.recall)),
    "mrr@10": mean(scores.map((score) => score.reciprocalRank)),
    empty: scores.filter((score) => score.empty).length,
    ...(sessions.length === 0 ? {} : { "session@10": mean(sessions) }),
  };
}

function differencesOf(scores: ReadonlyMap<ModeName, readonly Score[]>): Pick<Evaluation, "differences"> {
  const hybrid = scores.get("hybrid");
  if (hybrid === undefined) return {};
  const differences: Record<string, Record<"ndcg@10" | "recall@10", Difference>> = {};
  for (const mode of ["text", "semantic"] as const) {
    const leg = scores.get(mode);
    if (leg === undefined) continue;
    const compare = (value: (score: Score) => number) =>
      pairedDifference(hybrid.map(value), leg.map(value), createRandom(1, 0));
    differences[`hybrid-${mode}`] = {
      "ndcg@10": compare((score) => score.ndcg),
      "recall@10": compare((score) => score.recall),
    };
  }
  return Object.keys(differences).length === 0 ? {} : { differences };
}
