import { createRouterTransport } from "@connectrpc/connect";
import { createMemoryClient, type MemoryClient } from "memory-service-client";
import { createErrorInterceptor } from "../rpc/interceptors/errors.ts";
import { createCleanup } from "../util/cleanup.ts";
import type { Logger } from "../util/logger.ts";
import type { Config } from "./config.ts";
import { openServices } from "./open-services.ts";

/** A client of a service that lives in this process. */
export interface LocalClient {
  readonly client: MemoryClient;
  /** Ends what works in the background, and closes the database. Idempotent. */
  close(): Promise<void>;
}

/**
 * Opens the configured database and serves it to this process alone: no port, no limit on the size of messages. The
 * embedded engine takes one process at a time, so no server may run on its directory.
 *
 * @throws StartupError with one sentence for the operator; nothing is left open then.
 */
export async function openLocalClient(config: Config, logger: Logger): Promise<LocalClient> {
  const cleanup = createCleanup();
  try {
    // Nobody can ask for them.
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
