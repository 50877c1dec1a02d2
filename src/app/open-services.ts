import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { type Tracer, trace } from "@opentelemetry/api";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "memory-service-client/memoryservice/v1/server_service_pb.js";
import { needsCredentials } from "../auth/settings.ts";
import { readConfiguredProfiles } from "../embedding/configured-profiles.ts";
import { createEmbedders } from "../embedding/embedders.ts";
import { createOllamaEmbedder } from "../embedding/ollama/ollama-embedder.ts";
import { createDomainUseCases } from "../memory/domains/domains.ts";
import { startTextReindexer } from "../memory/domains/text-reindexer.ts";
import { createContentEmbedder } from "../memory/embed/content-embedder.ts";
import { startEmbeddingWorker } from "../memory/embed/embedding-worker.ts";
import type { Embedder } from "../memory/model/embedder.ts";
import { createMemoryUseCases } from "../memory/use-cases.ts";
import { startExpirySweeper } from "../memory/write/expiry-sweeper.ts";
import { createMetrics, type Metrics } from "../observability/metrics.ts";
import { traceDatabase } from "../observability/trace-database.ts";
import { traceEmbedder } from "../observability/trace-embedder.ts";
import { createDomainService } from "../rpc/services/domain-service.ts";
import { createMemoryService } from "../rpc/services/memory-service.ts";
import { createServerService } from "../rpc/services/server-service.ts";
import type { Database } from "../storage/database/database.ts";
import { readEngineVersion } from "../storage/database/engine-version.ts";
import { findPendingWork, migrate, sqlDirectory } from "../storage/migrations/migrations.ts";
import { createPostgresRepository } from "../storage/postgres/create-repository.ts";
import { startMaintenance } from "../storage/postgres/domains/maintenance.ts";
import { countPending } from "../storage/postgres/embeddings/count-pending.ts";
import { releaseLeases } from "../storage/postgres/embeddings/release-leases.ts";
import { readTextRanker } from "../storage/postgres/search/search-text.ts";
import type { Cleanup } from "../util/cleanup.ts";
import type { Logger } from "../util/logger.ts";
import { readVersion } from "../util/package-version.ts";
import { StartupError } from "../util/startup-error.ts";
import type { Config } from "./config.ts";
import { openDatabase } from "./open-database.ts";

/** The services of the contract at work, with all that goes on behind them, and no way in yet. */
export interface Services {
  readonly descriptors: readonly DescService[];
  /** Adds their handlers. Errors are those of the contract only behind createErrorInterceptor. */
  readonly routes: (router: ConnectRouter) => void;
  readonly database: Database;
  /** That of the default model. */
  readonly embedder: Embedder;
  /** Undefined: switched off. */
  readonly metrics: Metrics | undefined;
  readonly tracer: Tracer;
}

/**
 * Opens database, embedder and what works in the background, and adds to `cleanup` how to close each.
 *
 * @throws StartupError with one sentence for the operator.
 */
export async function openServices(config: Config, logger: Logger, cleanup: Cleanup): Promise<Services> {
  const { settings } = config;
  const { find: findProfile } = readConfiguredProfiles(settings.MEMORY_MODEL_PROFILES);
  const version = readVersion();
  // Does nothing unless the host has registered an SDK.
  const tracer = trace.getTracer("memory-service", version);

  const database = traceDatabase(await openDatabase(config, logger), tracer);
  cleanup.defer(() => database.close());
  if (settings.MEMORY_MIGRATE) await migrate(database, { directory: sqlDirectory, logger });
  else await assertMigrated(database);
  await database.registerVectorTypes();
  const maintenance = startMaintenance({ database, logger });
  cleanup.defer(() => maintenance.close());

  const repository = createPostgresRepository(database);
  const ollamaOptions = { url: settings.OLLAMA_API_URL, pull: settings.MEMORY_PULL_MODEL, logger };
  const defaultModel = settings.OLLAMA_EMBEDDING_MODEL;
  const ollama = createOllamaEmbedder({
    ...ollamaOptions,
    model: defaultModel,
    profile: findProfile(defaultModel),
  });
  const metrics = settings.MEMORY_METRICS
    ? createMetrics({
        version,
        engine: database.engine,
        connections: () => database.connections(),
        countPending: (signal) => countPending(database, { signal }),
        logger,
      })
    : undefined;
  const embedder = traceEmbedder(metrics?.countEmbedder(ollama) ?? ollama, tracer);
  // Metrics tell of the default model only.
  const embedders = createEmbedders(embedder, ({ embeddingModel = defaultModel, requestedDimensions }) =>
    traceEmbedder(
      createOllamaEmbedder({
        ...ollamaOptions,
        model: embeddingModel,
        profile: findProfile(embeddingModel),
        ...(requestedDimensions === undefined ? {} : { dimensions: requestedDimensions }),
      }),
      tracer,
    ),
  );
  cleanup.defer(() => embedders.close());
  const contents = createContentEmbedder({ embedder, embedders, repository, logger });
  const defaultDomain = settings.DEFAULT_MEMORY_DOMAIN;
  await repository.createDomain(defaultDomain, embedder.space()?.dimensions);
  // No other process uses an embedded database.
  if (database.engine === "embedded") await releaseLeases(database);

  const worker = startEmbeddingWorker({
    repository: metrics?.countBackgroundEmbeddings(repository) ?? repository,
    contents,
    embedders,
    onDomains: embedders.keepOnly,
    logger,
  });
  cleanup.defer(() => worker.close());
  const sweeper = startExpirySweeper({ repository, logger, onDeleted: metrics?.countExpired });
  cleanup.defer(() => sweeper.close());
  const maxDomains = settings.MEMORY_MAX_DOMAINS || undefined;
  const memories = createMemoryUseCases({
    repository,
    contents,
    embedBudgetMs: settings.MEMORY_EMBED_BUDGET_MS,
    createDomains: settings.MEMORY_CREATE_DOMAINS,
    maxDomains,
    onPending: (domain) => worker.notify(domain),
    logger,
  });
  cleanup.defer(() => memories.close());
  const memoryService = createMemoryService(memories, { defaultDomain });

  const reindexer = startTextReindexer({ repository, logger });
  cleanup.defer(() => reindexer.close());
  const domains = createDomainUseCases({
    repository,
    contents,
    embedders,
    embedBudgetMs: settings.MEMORY_EMBED_BUDGET_MS,
    defaultDomain,
    maxDomains,
    onReindexing: () => reindexer.notify(),
    logger,
  });
  const domainService = createDomainService(domains, { defaultDomain });

  const serverService = createServerService({
    version,
    engine: database.engine,
    engineVersion: await readEngineVersion(database),
    defaultDomain,
    createDomains: settings.MEMORY_CREATE_DOMAINS,
    authentication: needsCredentials(settings),
    maxDomains,
    model: defaultModel,
    embedder,
    contents,
    textRanker: await readTextRanker(database),
  });

  return {
    descriptors: [MemoryService, DomainService, ServerService],
    routes(router) {
      router.service(MemoryService, memoryService);
      router.service(DomainService, domainService);
      router.service(ServerService, serverService);
    },
    database,
    embedder,
    metrics,
    tracer,
  };
}

/** @throws StartupError if migrations are pending, or tables of domains are of an older revision. */
async function assertMigrated(database: Database): Promise<void> {
  const { migrations, domains } = await findPendingWork(database, { directory: sqlDirectory });
  const lacks = [
    ...migrations.map(({ name }) => name),
    ...domains.map((name) => `the present tables of domain "${name}"`),
  ];
  if (lacks.length === 0) return;
  throw new StartupError(
    `the database lacks ${lacks.join(", ")}: run "memory-service migrate", or set MEMORY_MIGRATE=true`,
  );
}
