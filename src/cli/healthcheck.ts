import { readConfig, SettingsError } from "../app/config.ts";
import { failingChecks, probeServer } from "./client/probe-server.ts";

/** Shorter than the usual timeout of a container's health check, which is 30 s. */
const TIMEOUT_MS = 5_000;

/**
 * Prints in one line whether the server at MEMORY_HOST and MEMORY_PORT is ready. Returns the exit code.
 *
 * @throws SettingsError
 */
export async function healthcheck(): Promise<number> {
  const { settings } = readConfig(process.env);
  if (settings.MEMORY_PORT === 0) {
    throw new SettingsError("MEMORY_PORT must be the port of the server, got 0");
  }
  const probe = await probeServer(settings, TIMEOUT_MS);
  switch (probe.kind) {
    case "server": {
      const details = failingChecks(probe)
        .map(([name, { detail }]) => `${name} ${detail}`)
        .join(", ");
      if (!probe.ready) return report(`the server at ${probe.url} is not ready: ${details}`, 1);
      return report(`ready${details === "" ? "" : `, although: ${details}`}`, 0);
    }
    case "absent":
      return report(`no server is running at ${probe.url}`, 1);
    case "unrecognized":
      return report(`${probe.url} is not a memory-service that responds: ${probe.reason}`, 1);
  }
}

function report(sentence: string, exitCode: number): number {
  if (exitCode === 0) console.log(sentence);
  else console.error(`memory-service: ${sentence}`);
  return exitCode;
}
