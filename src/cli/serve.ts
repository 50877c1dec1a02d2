import { once } from "node:events";
import { readConfig } from "../app/config.ts";
import { startApp } from "../app/start-app.ts";
import { readVersion } from "../util/package-version.ts";
import { databaseName, hostAndPort, withoutSecrets } from "./client/addresses.ts";
import { createLogger } from "./output/log.ts";
import { describeUnknownSetting, findUnknownSettings } from "./unknown-settings.ts";

/**
 * Runs the server until SIGTERM or SIGINT arrives. A second signal ends the process immediately.
 *
 * @throws StartupError
 */
export async function serve(): Promise<void> {
  const config = readConfig(process.env);
  const { settings } = config;
  const logger = createLogger(settings.MEMORY_LOG_LEVEL);
  logger.info(
    {
      version: readVersion(),
      engine: config.postgres === undefined ? "embedded" : "postgres",
      database: databaseName(config),
      ollama: withoutSecrets(settings.OLLAMA_API_URL),
      model: settings.OLLAMA_EMBEDDING_MODEL,
      domain: settings.DEFAULT_MEMORY_DOMAIN,
      listen: hostAndPort(settings.MEMORY_HOST, settings.MEMORY_PORT),
    },
    "starting",
  );
  for (const unknown of findUnknownSettings(process.env)) logger.warn({}, describeUnknownSetting(unknown));
  // Registered before the start, so that an early signal does not end the process halfway.
  const signalled = Promise.race(["SIGTERM", "SIGINT"].map((name) => once(process, name).then(() => name)));
  const app = await startApp(config, logger);

  const signal = await signalled;
  for (const name of ["SIGTERM", "SIGINT"]) process.once(name, () => process.exit(1));
  logger.info({ signal }, "stopping");
  await app.close();
  logger.info({}, "stopped");
}
