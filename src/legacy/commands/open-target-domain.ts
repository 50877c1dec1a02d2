import { createRouterTransport } from "@connectrpc/connect";
import { createMemoryClient } from "memory-service-client";
import { type Config, readConfig, SettingsError } from "../../app/config.ts";
import { openDatabase } from "../../app/open-database.ts";
import { openLocalClient } from "../../app/open-local-client.ts";
import { databaseName } from "../../cli/client/addresses.ts";
import { probeServer } from "../../cli/client/probe-server.ts";
import { serverUrl, toCliError, withClient } from "../../cli/client/server-client.ts";
import { warningLogger } from "../../cli/output/log.ts";
import { hasCluster } from "../../storage/database/embedded/directory-lock.ts";
import { findPendingWork, sqlDirectory } from "../../storage/migrations/migrations.ts";
import type { TargetDomain } from "../import/target-domain.ts";

/** Maximum time that probing the server takes. */
const PROBE_TIMEOUT_MS = 3_000;

/**
 * Runs `work` on a domain of the given server, or of the server at MEMORY_HOST and MEMORY_PORT. If no server is
 * running, opens the configured database in this process.
 *
 * @throws StartupError, UsageError
 */
export async function withTargetDomain<T>(
  options: {
    readonly server?: string | undefined;
    readonly domain?: string | undefined;
    /** Write nothing. A database that does not exist or is not migrated counts as empty. */
    readonly readOnly?: boolean;
  },
  work: (target: TargetDomain) => Promise<T>,
): Promise<T> {
  const url = options.server === undefined ? await runningServer() : await serverUrl(options.server);
  if (url !== undefined) {
    return await withClient(url, async (client) => {
      const domain = options.domain ?? (await client.server.getServerInfo({})).defaultDomain;
      return await work({ client, domain, name: `the server at ${url}`, remote: true });
    });
  }
  const config = readConfig(process.env);
  const domain = options.domain ?? config.settings.DEFAULT_MEMORY_DOMAIN;
  const name = `${config.postgres === undefined ? "the directory" : "PostgreSQL at"} ${databaseName(config)}`;
  if (options.readOnly && !(await isUpToDate(config))) {
    const client = createMemoryClient({ transport: createRouterTransport(() => {}) });
    return await work({ client: client.raw, domain, name, remote: false, empty: true });
  }
  const local = await openLocalClient(config, warningLogger);
  try {
    return await work({ client: local.client.raw, domain, name, remote: false });
  } catch (error) {
    throw toCliError(error, databaseName(config));
  } finally {
    await local.close();
  }
}

/** Whether the database exists and has no pending migrations, so that opening it writes nothing. */
async function isUpToDate(config: Config): Promise<boolean> {
  if (config.postgres === undefined && !hasCluster(config.settings.MEMORY_DATA_DIR)) return false;
  const database = await openDatabase(config, warningLogger);
  try {
    const { migrations, domains } = await findPendingWork(database, { directory: sqlDirectory });
    return migrations.length === 0 && domains.length === 0;
  } finally {
    await database.close();
  }
}

/** Returns the URL of the server at MEMORY_HOST and MEMORY_PORT; undefined if none is running. @throws SettingsError */
export async function runningServer(): Promise<string | undefined> {
  const { settings } = readConfig(process.env);
  if (settings.MEMORY_PORT === 0) return undefined;
  const probe = await probeServer(settings, PROBE_TIMEOUT_MS);
  switch (probe.kind) {
    case "absent":
      return undefined;
    case "server":
      return await serverUrl(undefined);
    case "unrecognized":
      throw new SettingsError(
        `${probe.url} is not a memory-service that responds (${probe.reason}); name the server with --server, or set MEMORY_PORT`,
      );
  }
}
