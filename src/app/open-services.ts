import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { type Tracer, trace } from "@opentelemetry/api";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "memory-service-client/memoryservice/v1/server_service_pb.js";
import { needsCredentials } from "../auth/settings.ts";
import { createDomainUseCases, type DomainUseCases } from "../memory/domains/domains.ts";
import { startTextReindexer } from "../memory/domains/text-reindexer.ts";
import { type ContentEmbedder, createContentEmbedder } from "../memory/embed/content-embedder.ts";
import { startEmbeddingWorker } from "../memory/embed/embedding-worker.ts";
import type { Embedder, Embedders } from "../memory/model/embedder.ts";
import type { Repository } from "../memory/model/repository.ts";
import { createMemoryUseCases, type MemoryUseCases } from "../memory/use-cases.ts";
import { startExpirySweeper } from "../memory/write/expiry-sweeper.ts";
import { createMetrics, type Metrics } from "../observability/metrics.ts";
import { traceDatabase } from "../observability/trace-database.ts";
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
import type { Config, SettingValues } from "./config.ts";
import { openDatabase } from "./open-database.ts";
import { openEmbedders } from "./open-embedders.ts";

/** The RPC services and everything behind them, without a listener. */
export interface Services {
  readonly descriptors: readonly DescService[];
  /** Adds the handlers of the services. They need `createErrorInterceptor` to return the errors of the contract. */
  readonly routes: (router: ConnectRouter) => void;
  readonly database: Database;
  /** Embedder of the default model. */
  readonly embedder: Embedder;
  /** Undefined if metrics are disabled. */
  readonly metrics: Metrics | undefined;
  readonly tracer: Tracer;
}

/**
 * Opens the database and the embedders, starts the background work, and adds a step to `cleanup` for each of them.
 *
 * @throws StartupError with one sentence for the operator.
 */
export async function openServices(config: Config, logger: Logger, cleanup: Cleanup): Promise<Services> {
  const { settings } = config;
  const version = readVersion();
  // A no-op tracer, unless the host process has registered an SDK.
  const tracer = trace.getTracer("memory-service", version);
  const database = traceDatabase(await openDatabase(config, logger), tracer);
  cleanup.defer(() => database.close());
  await prepareDatabase(database, settings, logger, cleanup);

  const repository = createPostgresRepository(database);
  const metrics = settings.MEMORY_METRICS
    ? createMetrics({
        version,
        engine: database.engine,
        connections: () => database.connections(),
        countPending: (signal) => countPending(database, { signal }),
        logger,
      })
    : undefined;
  const { embedder, embedders } = openEmbedders({ settings, metrics, tracer, logger });
  cleanup.defer(() => embedders.close());
  const contents = createContentEmbedder({ embedder, embedders, repository, logger });
  const defaultDomain = settings.DEFAULT_MEMORY_DOMAIN;
  await repository.createDomain(defaultDomain, embedder.space()?.dimensions);
  // No other process uses an embedded database, so every lease is left over from an earlier run.
  if (database.engine === "embedded") await releaseLeases(database);

  const useCases = startUseCases({ settings, repository, contents, embedders, metrics, logger, cleanup });
  const memoryService = createMemoryService(useCases.memories, { defaultDomain });
  const domainService = createDomainService(useCases.domains, { defaultDomain });
  const serverService = createServerService({
    version,
    engine: database.engine,
    engineVersion: await readEngineVersion(database),
    defaultDomain,
    createDomains: settings.MEMORY_CREATE_DOMAINS,
    authentication: needsCredentials(settings),
    maxDomains: settings.MEMORY_MAX_DOMAINS || undefined,
    model: settings.OLLAMA_EMBEDDING_MODEL,
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

/** Creates the use cases and starts the background work that they notify. */
function startUseCases(dependencies: {
  readonly settings: SettingValues;
  readonly repository: Repository;
  readonly contents: ContentEmbedder;
  readonly embedders: Embedders;
  readonly metrics: Metrics | undefined;
  readonly logger: Logger;
  readonly cleanup: Cleanup;
}): { readonly memories: MemoryUseCases; readonly domains: DomainUseCases } {
  const { settings, repository, contents, embedders, metrics, logger, cleanup } = dependencies;
  const embedBudgetMs = settings.MEMORY_EMBED_BUDGET_MS;
  const maxDomains = settings.MEMORY_MAX_DOMAINS || undefined;
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
  const memories = createMemoryUseCases({
    repository,
    contents,
    embedBudgetMs,
    createDomains: settings.MEMORY_CREATE_DOMAINS,
    maxDomains,
    onPending: (domain) => worker.notify(domain),
    logger,
  });
  cleanup.defer(() => memories.close());
  const reindexer = startTextReindexer({ repository, logger });
  cleanup.defer(() => reindexer.close());
  const domains = createDomainUseCases({
    repository,
    contents,
    embedders,
    embedBudgetMs,
    defaultDomain: settings.DEFAULT_MEMORY_DOMAIN,
    maxDomains,
    onReindexing: () => reindexer.notify(),
    logger,
  });
  return { memories, domains };
}

/** Migrates the database, or checks that it is migrated, and starts its maintenance. */
async function prepareDatabase(
  database: Database,
  settings: SettingValues,
  logger: Logger,
  cleanup: Cleanup,
): Promise<void> {
  if (settings.MEMORY_MIGRATE) await migrate(database, { directory: sqlDirectory, logger });
  else await assertMigrated(database);
  await database.registerVectorTypes();
  const maintenance = startMaintenance({ database, logger });
  cleanup.defer(() => maintenance.close());
}

/** @throws StartupError if migrations are pending or the tables of a domain have an older revision. */
async function assertMigrated(database: Database): Promise<void> {
  const { migrations, domains } = await findPendingWork(database, { directory: sqlDirectory });
  const missing = [
    ...migrations.map(({ name }) => name),
    ...domains.map((name) => `the current tables of domain "${name}"`),
  ];
  if (missing.length === 0) return;
  throw new StartupError(
    `the database lacks ${missing.join(", ")}: run "memory-service migrate", or set MEMORY_MIGRATE=true`,
  );
}
