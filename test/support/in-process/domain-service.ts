import { createClient, createRouterTransport } from "@connectrpc/connect";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { createDomainUseCases, type DomainUseCases } from "../../../src/memory/domains/domains.ts";
import { startTextReindexer } from "../../../src/memory/domains/text-reindexer.ts";
import { createErrorInterceptor } from "../../../src/rpc/interceptors/errors.ts";
import { createDomainService } from "../../../src/rpc/services/domain-service.ts";
import type { BackgroundLoop } from "../../../src/util/background-loop.ts";
import { silentLogger } from "../silent-logger.ts";
import type { UseCases } from "./use-cases.ts";

/**
 * DomainService as src/app/open-services.ts wires it, beside the use cases of memories, with their domain as the
 * default one.
 */
export interface DomainServer {
  readonly domains: DomainUseCases;
  /** An in-process client: it encodes and decodes every message but opens no connection. */
  readonly client: ReturnType<typeof createClient<typeof DomainService>>;
  /** Starts the background work, which the caller closes. */
  startReindexer(): BackgroundLoop;
}

export function createDomainServer(
  { repository, contents, domain }: UseCases,
  options: { readonly maxDomains?: number } = {},
): DomainServer {
  let reindexer: BackgroundLoop | undefined;
  const domains = createDomainUseCases({
    repository,
    contents,
    embedBudgetMs: 5_000,
    defaultDomain: domain,
    onReindexing: () => reindexer?.notify(),
    logger: silentLogger,
    ...options,
  });
  const service = createDomainService(domains, { defaultDomain: domain });
  const transport = createRouterTransport((router) => void router.service(DomainService, service), {
    router: { interceptors: [createErrorInterceptor({ logger: silentLogger })] },
  });
  return {
    domains,
    client: createClient(DomainService, transport),
    startReindexer() {
      reindexer = startTextReindexer({ repository, logger: silentLogger });
      return reindexer;
    },
  };
}
