/** The settings of authentication and TLS. Undefined settings are unset. */
export type AuthSettings = Readonly<
  Record<
    | "MEMORY_API_KEYS"
    | "MEMORY_API_KEYS_FILE"
    | "MEMORY_JWT_ISSUER"
    | "MEMORY_JWT_AUDIENCE"
    | "MEMORY_JWT_JWKS_URL"
    | "MEMORY_JWT_KEY_FILE"
    | "MEMORY_TLS_CERT_FILE"
    | "MEMORY_TLS_KEY_FILE"
    | "MEMORY_TLS_CLIENT_CA_FILE"
    | "MEMORY_CLIENT_CERT_FILE"
    | "MEMORY_CLIENT_KEY_FILE",
    string | undefined
  >
>;

/** Returns whether callers need credentials. */
export function needsCredentials(settings: AuthSettings): boolean {
  return (
    settings.MEMORY_API_KEYS !== undefined ||
    settings.MEMORY_API_KEYS_FILE !== undefined ||
    settings.MEMORY_JWT_ISSUER !== undefined
  );
}

/** Returns the problems of security settings that contradict each other or are incomplete. */
export function securityProblems(settings: AuthSettings): string[] {
  const problems: string[] = [];
  const isSet = (name: keyof AuthSettings) => settings[name] !== undefined;
  const needs = (name: keyof AuthSettings, other: keyof AuthSettings) => {
    if (isSet(name) && !isSet(other)) problems.push(`${name} is set without ${other}: set both or neither`);
  };
  if (isSet("MEMORY_API_KEYS") && isSet("MEMORY_API_KEYS_FILE")) {
    problems.push("MEMORY_API_KEYS and MEMORY_API_KEYS_FILE are both set: set only one of them");
  }
  needs("MEMORY_TLS_CERT_FILE", "MEMORY_TLS_KEY_FILE");
  needs("MEMORY_TLS_KEY_FILE", "MEMORY_TLS_CERT_FILE");
  needs("MEMORY_TLS_CLIENT_CA_FILE", "MEMORY_TLS_CERT_FILE");
  needs("MEMORY_CLIENT_CERT_FILE", "MEMORY_CLIENT_KEY_FILE");
  needs("MEMORY_CLIENT_KEY_FILE", "MEMORY_CLIENT_CERT_FILE");
  needs("MEMORY_JWT_ISSUER", "MEMORY_JWT_AUDIENCE");
  needs("MEMORY_JWT_AUDIENCE", "MEMORY_JWT_ISSUER");
  needs("MEMORY_JWT_JWKS_URL", "MEMORY_JWT_ISSUER");
  needs("MEMORY_JWT_KEY_FILE", "MEMORY_JWT_ISSUER");
  if (isSet("MEMORY_JWT_ISSUER") && isSet("MEMORY_JWT_JWKS_URL") === isSet("MEMORY_JWT_KEY_FILE")) {
    problems.push("MEMORY_JWT_ISSUER requires exactly one of MEMORY_JWT_JWKS_URL and MEMORY_JWT_KEY_FILE");
  }
  return problems;
}
