import type { Config } from "../../app/config.ts";
import { probeServer, type ServerProbe } from "../client/probe-server.ts";
import type { Report } from "./check.ts";
import { checkDomains } from "./check-domains.ts";
import { checkEmbedder } from "./check-embedder.ts";
import { checkProgram } from "./check-program.ts";
import { checkSecurity } from "./check-security.ts";
import { checkServer } from "./check-server.ts";
import { inspectStorage } from "./inspect-storage.ts";

/** Longer than `/readyz` takes when the database is unreachable. */
const SERVER_TIMEOUT_MS = 5_000;

/**
 * Runs every check and changes nothing: creates no directory, applies no migration and pulls no model. (Opening the
 * embedded engine triggers PostgreSQL's own housekeeping in its files, and Ollama may load the model into memory.)
 */
export async function diagnose(
  config: Config,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Report> {
  const [server, embedder, security] = await Promise.all([
    probeConfiguredServer(config),
    checkEmbedder(config.settings),
    checkSecurity(config.settings),
  ]);
  const storage = await inspectStorage(config, server);
  return {
    checks: [
      ...checkProgram(config, environment),
      ...security,
      checkServer(server),
      ...storage.checks,
      ...embedder.checks,
      ...checkDomains(storage.domains, embedder),
    ],
    domains: storage.domains.map(({ report }) => report),
  };
}

async function probeConfiguredServer({ settings }: Config): Promise<ServerProbe | undefined> {
  if (settings.MEMORY_PORT === 0) return undefined;
  return await probeServer(settings, SERVER_TIMEOUT_MS);
}
