import { needsCredentials, securityProblems } from "../auth/settings.ts";
import { readConfiguredProfiles } from "../embedding/configured-profiles.ts";
import type { PostgresAddress } from "../storage/database/server/postgres-database.ts";
import { isLoopbackHost } from "../util/loopback.ts";
import { StartupError } from "../util/startup-error.ts";
import { SETTINGS, type Setting, type SettingName } from "./settings.ts";

type Value<N extends SettingName> = (typeof SETTINGS)[N] extends Setting<infer T> & { default: infer D }
  ? D extends undefined
    ? T | undefined
    : T
  : never;

/** The values of all settings. Undefined for a setting that is unset and has no default. */
export type SettingValues = { readonly [N in SettingName]: Value<N> };

/** A setting is invalid, or two settings contradict each other. Commands report it as a usage error. */
export class SettingsError extends StartupError {}

export interface Config {
  readonly settings: SettingValues;
  /** Undefined for the embedded engine in MEMORY_DATA_DIR. */
  readonly postgres: PostgresAddress | undefined;
}

/**
 * Reads the settings from the environment. An empty variable counts as unset.
 *
 * @throws SettingsError that lists all problems, each with the variable and the allowed values.
 */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries<Setting<unknown>>(SETTINGS)) {
    const given = environment[name] || undefined;
    const text = given ?? setting.default;
    const value = text === undefined ? undefined : setting.parse(text);
    if (text !== undefined && value === undefined) {
      // An invalid URL may still contain a password.
      const secret = setting.kind === "secret" || (setting.kind === "url" && text.includes("@"));
      problems.push(`${name} must be ${setting.allowed}${secret ? "" : `, got ${JSON.stringify(text)}`}`);
    }
    values[name] = value;
  }
  const settings = values as SettingValues;

  const postgresVariables = Object.keys(SETTINGS).filter(
    (name) => name.startsWith("POSTGRES_") && environment[name],
  );
  if (environment.DATABASE_URL && postgresVariables.length > 0) {
    problems.push(`DATABASE_URL and ${postgresVariables.join(", ")} are both set: set only one of them`);
  }
  if (
    settings.MEMORY_HOST &&
    !isLoopbackHost(settings.MEMORY_HOST) &&
    settings.MEMORY_ALLOW_UNAUTHENTICATED === false &&
    !needsCredentials(settings) &&
    settings.MEMORY_TLS_CLIENT_CA_FILE === undefined
  ) {
    problems.push(
      `MEMORY_HOST=${settings.MEMORY_HOST} is reachable from other machines without authentication: ` +
        "keep 127.0.0.1, set MEMORY_API_KEYS_FILE, MEMORY_JWT_ISSUER or MEMORY_TLS_CLIENT_CA_FILE, or set MEMORY_ALLOW_UNAUTHENTICATED=true " +
        "if the network is trusted",
    );
  }
  problems.push(...securityProblems(settings));
  const profiles = readConfiguredProfiles(settings.MEMORY_MODEL_PROFILES);
  problems.push(...profiles.problems.map((problem) => `MEMORY_MODEL_PROFILES ${problem}`));
  if (problems.length > 0) {
    throw new SettingsError(
      problems.length === 1 && problems[0] !== undefined
        ? problems[0]
        : `${problems.length} settings are invalid:\n${problems.map((line) => `  - ${line}`).join("\n")}`,
    );
  }

  return Object.freeze({
    settings: Object.freeze(settings),
    postgres: settings.DATABASE_URL
      ? { connectionString: settings.DATABASE_URL }
      : postgresVariables.length > 0
        ? {
            host: settings.POSTGRES_HOST ?? "127.0.0.1",
            port: settings.POSTGRES_PORT,
            database: settings.POSTGRES_DB,
            user: settings.POSTGRES_USER,
            password: settings.POSTGRES_PASSWORD,
          }
        : undefined,
  });
}
