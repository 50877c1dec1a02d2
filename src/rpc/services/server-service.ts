import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type { EmbeddingVersion } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  GetServerInfoResponse_Engine as Engine,
  GetServerInfoResponseSchema,
  type ServerService,
} from "memory-service-client/memoryservice/v1/server_service_pb.js";
import { CHUNKER_REVISION } from "../../memory/embed/chunk.ts";
import type { ContentEmbedder } from "../../memory/embed/content-embedder.ts";
import type { Embedder } from "../../memory/model/embedder.ts";
import { LIMITS } from "../../memory/model/limits.ts";
import type { TextRanker } from "../../memory/model/search-index.ts";
import { within } from "../../util/wait.ts";
import { callerOf } from "../caller.ts";
import { messageFromEmbeddingVersion } from "../messages/fields/embedding-version.ts";
import { messageOfTextRanker } from "../messages/search.ts";

/** Facts that GetServerInfo reports, and their sources. */
export interface ServerServiceDependencies {
  /** Version of the program, for example `1.4.0`. */
  readonly version: string;
  readonly engine: keyof typeof engines;
  /** Version of PostgreSQL, for example `18.1`; "" if it is unknown. */
  readonly engineVersion: string;
  readonly defaultDomain: string;
  readonly createDomains: boolean;
  /** Whether calls need credentials. */
  readonly authentication: boolean;
  /** Maximum number of domains; undefined for no limit. */
  readonly maxDomains?: number | undefined;
  /** The configured model, for example `nomic-embed-text`. */
  readonly model: string;
  readonly embedder: Pick<Embedder, "status" | "space">;
  readonly contents: Pick<ContentEmbedder, "current">;
  /** Text ranker of new domains. */
  readonly textRanker: TextRanker;
}

/** Time to wait for the number of a new embedding version. The answer must not depend on an unavailable database. */
const VERSION_WAIT_MS = 200;

const engines = {
  embedded: Engine.EMBEDDED,
  postgres: Engine.POSTGRES,
} as const satisfies Record<"embedded" | "postgres", Engine>;

const limits = {
  contentBytes: LIMITS.contentBytes,
  queryBytes: LIMITS.queryBytes,
  idCharacters: LIMITS.idLength,
  domainCharacters: LIMITS.domainLength,
  sourceCharacters: LIMITS.sourceLength,
  tags: LIMITS.tagCount,
  tagCharacters: LIMITS.tagLength,
  metadataBytes: LIMITS.metadataBytes,
  metadataDepth: LIMITS.metadataDepth,
  searchLimit: LIMITS.searchLimit,
  streamSearchLimit: LIMITS.streamLimit,
  searchDomains: LIMITS.searchDomains,
  pageSize: LIMITS.pageSize,
  batchItems: LIMITS.batchItems,
  filterDepth: LIMITS.filterDepth,
  filterConditions: LIMITS.filterConditions,
  messageBytes: LIMITS.messageBytes,
};

/** The handlers of memoryservice.v1.ServerService; they answer without the database and without the embedder. */
export function createServerService(
  dependencies: ServerServiceDependencies,
): ServiceImpl<typeof ServerService> {
  const { embedder, contents } = dependencies;

  async function embeddingVersion(): Promise<EmbeddingVersion | undefined> {
    const space = embedder.space();
    if (space === undefined) return undefined;
    const current = await within(
      contents.current().catch(() => undefined),
      VERSION_WAIT_MS,
    );
    return messageFromEmbeddingVersion({
      ...space,
      version: current?.version ?? 0,
      chunker: CHUNKER_REVISION,
    });
  }

  return {
    async getServerInfo(_request, context) {
      const { defaultDomain } = dependencies;
      const version = await embeddingVersion();
      return create(GetServerInfoResponseSchema, {
        version: dependencies.version,
        engine: engines[dependencies.engine],
        engineVersion: dependencies.engineVersion,
        // A caller without read access to the default domain does not learn its name.
        defaultDomain: callerOf(context).may("read", defaultDomain) ? defaultDomain : "",
        limits: { ...limits, domains: dependencies.maxDomains ?? 0 },
        features: {
          createDomains: dependencies.createDomains,
          textRanker: messageOfTextRanker[dependencies.textRanker],
          authentication: dependencies.authentication,
        },
        embedder: {
          model: dependencies.model,
          available: embedder.status().available,
          ...(version === undefined ? {} : { version }),
        },
      });
    },
  };
}
