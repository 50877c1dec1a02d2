import { createRouterTransport } from "@connectrpc/connect";
import { createMemoryClient, type MemoryClient } from "memory-service-client";
import { createErrorInterceptor } from "../rpc/interceptors/errors.ts";
import { createCleanup } from "../util/cleanup.ts";
import type { Logger } from "../util/logger.ts";
import type { Config } from "./config.ts";
import { openServices } from "./open-services.ts";

/** A client of a service in the same process. */
export interface LocalClient {
  readonly client: MemoryClient;
  /** Stops the background work and closes the database. Idempotent. */
  close(): Promise<void>;
}

/**
 * Opens the configured database and serves it within this process, without a port and without a limit on the size of
 * messages. The embedded engine allows one process at a time, so no server may use its directory.
 *
 * @throws StartupError with one sentence for the operator, after it has closed everything.
 */
export async function openLocalClient(config: Config, logger: Logger): Promise<LocalClient> {
  const cleanup = createCleanup();
  try {
    // Metrics cannot be scraped without a port.
    const settings = { ...config.settings, MEMORY_METRICS: false };
    const services = await openServices({ ...config, settings }, logger, cleanup);
    const transport = createRouterTransport(services.routes, {
      router: { interceptors: [createErrorInterceptor({ logger })] },
    });
    const client = createMemoryClient({ transport });
    cleanup.defer(async () => client.close());
    return { client, close: () => cleanup.run() };
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}
