import { readConfig, SettingsError } from "../app/config.ts";
import { probeServer } from "./client/probe-server.ts";

/** Less than the usual time-out of a container's health check, which is 30 s. */
const TIMEOUT_MS = 5_000;

/**
 * Says in one line whether the server at MEMORY_HOST and MEMORY_PORT is ready; returns the exit code.
 *
 * @throws SettingsError
 */
export async function healthcheck(): Promise<number> {
  const { settings } = readConfig(process.env);
  if (settings.MEMORY_PORT === 0) {
    throw new SettingsError("MEMORY_PORT must be the port of the server for a health check, is 0");
  }
  const answer = await probeServer(settings, TIMEOUT_MS);
  switch (answer.kind) {
    case "server": {
      const failing = Object.entries(answer.checks).filter(([, check]) => !check.ok);
      const details = failing.map(([name, { detail }]) => `${name} ${detail}`).join(", ");
      if (!answer.ready) return say(`the server at ${answer.url} is not ready: ${details}`, 1);
      return say(`ready${details === "" ? "" : `, although: ${details}`}`, 0);
    }
    case "absent":
      return say(`no server listens at ${answer.url}`, 1);
    case "unrecognized":
      return say(`what listens at ${answer.url} is not a ready memory-service: ${answer.reason}`, 1);
  }
}

function say(sentence: string, exitCode: number): number {
  if (exitCode === 0) console.log(sentence);
  else console.error(`memory-service: ${sentence}`);
  return exitCode;
}
