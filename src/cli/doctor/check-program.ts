import type { Config } from "../../app/config.ts";
import { SETTINGS } from "../../app/settings.ts";
import { readVersion } from "../../util/package-version.ts";
import { isRemote } from "../client/addresses.ts";
import { findUnknownSettings } from "../unknown-settings.ts";
import { type Check, ok, warning } from "./check.ts";

/** Checks the versions of the program and its settings. */
export function checkProgram(
  { settings }: Config,
  environment: Readonly<Record<string, string | undefined>>,
): Check[] {
  const set = Object.keys(SETTINGS).filter((name) => environment[name]);
  const checks = [
    ok("program", `memory-service ${readVersion()} on Node ${process.versions.node}`),
    ok(
      "settings",
      set.length === 0
        ? "all settings have their defaults"
        : `set: ${set.join(", ")}; the others have their defaults`,
    ),
  ];
  for (const { name, suggestion } of findUnknownSettings(environment)) {
    const remedy =
      suggestion === undefined
        ? `unset it; run "memory-service serve --help" to list the settings`
        : `set ${suggestion} instead`;
    checks.push(warning("settings", `${name} is not a known setting`, remedy));
  }
  const ollama = new URL(settings.OLLAMA_API_URL);
  if (ollama.protocol === "http:" && isRemote(ollama.hostname)) {
    checks.push(
      warning(
        "network",
        `every text is sent to Ollama at ${ollama.host} unencrypted`,
        "use https:// with a proxy in front of Ollama, or a tunnel",
      ),
    );
  }
  return checks;
}
