import { once } from "node:events";
import { pino } from "pino";
import { startApp } from "../app.ts";
import { readConfig } from "../config.ts";

/**
 * Runs the server until SIGTERM or SIGINT; a second signal ends it at once.
 *
 * @throws StartupError
 */
export async function serve(): Promise<void> {
  const config = readConfig(process.env);
  const logger = pino({ level: config.settings.MEMORY_LOG_LEVEL, base: null });
  const app = await startApp(config, logger);

  const signal = await Promise.race(
    ["SIGTERM", "SIGINT"].map((name) => once(process, name).then(() => name)),
  );
  for (const name of ["SIGTERM", "SIGINT"]) process.once(name, () => process.exit(1));
  logger.info({ signal }, "stopping");
  await app.close();
  logger.info({}, "stopped");
}
