import { createRouterTransport } from "@connectrpc/connect";
import { createMemoryClient } from "memory-service-client";
import { type Config, readConfig, SettingsError } from "../../app/config.ts";
import { openDatabase } from "../../app/open-database.ts";
import { openLocalClient } from "../../app/open-local-client.ts";
import { databaseName } from "../../cli/client/addresses.ts";
import { probeServer } from "../../cli/client/probe-server.ts";
import { serverUrl, toCliError, withClient } from "../../cli/client/server-client.ts";
import { warningLogger } from "../../cli/output/log.ts";
import { hasCluster } from "../../storage/database/directory-lock.ts";
import { findPendingWork, sqlDirectory } from "../../storage/migrations/migrations.ts";
import type { TargetDomain } from "../import/target-domain.ts";

/** How long a server may take to say that it is one. */
const ASK_TIMEOUT_MS = 3_000;

/**
 * Runs `work` on a domain of the server that was named, else of the one that runs at MEMORY_HOST and MEMORY_PORT, else
 * on the configured database without a server.
 *
 * @throws StartupError, UsageError
 */
export async function withTargetDomain<T>(
  options: {
    readonly server?: string | undefined;
    readonly domain?: string | undefined;
    /** Only to look: a database that is not there, or not brought up to date, is not made, and passes for empty. */
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

/** Whether the database can be opened without writing to it. */
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

/** The URL of the server at MEMORY_HOST and MEMORY_PORT, if one runs. @throws SettingsError if something else does. */
export async function runningServer(): Promise<string | undefined> {
  const { settings } = readConfig(process.env);
  if (settings.MEMORY_PORT === 0) return undefined;
  const answer = await probeServer(settings, ASK_TIMEOUT_MS);
  switch (answer.kind) {
    case "absent":
      return undefined;
    case "server":
      return await serverUrl(undefined);
    case "unrecognized":
      throw new SettingsError(
        `what listens at ${answer.url} is no server of this program (${answer.reason}): name the server with --server, or set MEMORY_PORT`,
      );
  }
}
