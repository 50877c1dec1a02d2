/**
 * A setting of the server. The table of settings is the single source for validation, `--help` and
 * docs/configuration.md. Names start with MEMORY_, except for the common names of PostgreSQL and Ollama settings and
 * DEFAULT_MEMORY_DOMAIN.
 */
export interface Setting<T> {
  readonly kind: "text" | "secret" | "url" | "integer" | "boolean" | "list" | "choice";
  readonly description: string;
  /** Default, as written in the environment. Undefined if there is none. */
  readonly default: string | undefined;
  readonly unit?: string;
  /** Description of the allowed values, for the documentation and for errors. */
  readonly allowed: string;
  /** Returns the value, or undefined if the text is not allowed. */
  readonly parse: (text: string) => T | undefined;
}

interface TextOptions<D extends string | undefined> {
  readonly default: D;
  readonly description: string;
}

function text<D extends string | undefined>(options: TextOptions<D>) {
  return {
    ...options,
    kind: "text",
    allowed: "text",
    parse: (value: string) => value,
  } as const satisfies Setting<string>;
}

function secret(description: string) {
  return {
    description,
    default: undefined,
    kind: "secret",
    allowed: "text",
    parse: (value: string) => value,
  } as const satisfies Setting<string>;
}

function postgresUrl(description: string) {
  return {
    description,
    default: undefined,
    kind: "secret",
    allowed:
      "a postgres:// or postgresql:// URL; in user and password, write @ as %40, # as %23, / as %2F and % as %25",
    parse: (value: string) => {
      // The URL of a Unix socket has no host, but URL.parse requires one after a user.
      const parsed = URL.parse(value.replace("@/", "@socket/"));
      return parsed !== null && /^postgres(ql)?:$/.test(parsed.protocol) && areDecodable(parsed)
        ? value
        : undefined;
    },
  } as const satisfies Setting<string>;
}

/** Returns whether user and password can be decoded. An unescaped % in them cannot. */
function areDecodable({ username, password }: URL): boolean {
  try {
    decodeURIComponent(`${username}${password}`);
    return true;
  } catch {
    return false;
  }
}

function pattern<D extends string | undefined>(
  options: TextOptions<D> & { allowed: string; pattern: RegExp },
) {
  return {
    ...options,
    kind: "text",
    parse: (value: string) => (options.pattern.test(value) ? value : undefined),
  } as const satisfies Setting<string>;
}

function url<D extends string | undefined>(options: TextOptions<D>) {
  return {
    ...options,
    kind: "url",
    allowed: "an http:// or https:// URL",
    parse: (value: string) => {
      const parsed = URL.parse(value);
      return parsed !== null && /^https?:$/.test(parsed.protocol) && areDecodable(parsed) ? value : undefined;
    },
  } as const satisfies Setting<string>;
}

function integer(options: { default: number; min: number; max: number; unit?: string; description: string }) {
  return {
    ...options,
    default: String(options.default),
    kind: "integer",
    allowed: `a whole number from ${options.min} to ${options.max}`,
    parse: (value: string) => {
      const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
      return number >= options.min && number <= options.max ? number : undefined;
    },
  } as const satisfies Setting<number>;
}

function boolean(options: { default: boolean; description: string }) {
  return {
    ...options,
    default: String(options.default),
    kind: "boolean",
    allowed: "true or false",
    parse: (value: string) => (value === "true" ? true : value === "false" ? false : undefined),
  } as const satisfies Setting<boolean>;
}

function list(options: { description: string; allowed: string; isItem: (item: string) => boolean }) {
  return {
    ...options,
    default: undefined,
    kind: "list",
    parse: (value: string) => {
      const items = value
        .split(",")
        .map((item) => item.trim())
        .filter((item) => item !== "");
      return items.every(options.isItem) ? items : undefined;
    },
  } as const satisfies Setting<readonly string[]>;
}

function choice<const C extends string>(options: { choices: readonly C[]; default: C; description: string }) {
  return {
    ...options,
    kind: "choice",
    allowed: `one of ${options.choices.join(", ")}`,
    parse: (value: string) => options.choices.find((one) => one === value),
  } as const satisfies Setting<C>;
}

export const SETTINGS = {
  MEMORY_HOST: pattern({
    default: "127.0.0.1",
    pattern: /^([A-Za-z0-9._-]+|[0-9A-Fa-f:.%]*:[0-9A-Za-z:.%]*:[0-9A-Za-z:.%]*)$/,
    allowed: "a host name or an IP address, without a port",
    description:
      "Address to listen on. A non-loopback address requires API keys, tokens, client certificates or MEMORY_ALLOW_UNAUTHENTICATED=true.",
  }),
  MEMORY_PORT: integer({
    default: 50051,
    min: 0,
    max: 65535,
    description: "Port for gRPC, Connect, gRPC-Web, health checks and probes. 0 selects a free port.",
  }),
  MEMORY_ALLOW_UNAUTHENTICATED: boolean({
    default: false,
    description:
      "Allow listening beyond loopback without credentials. Anyone who reaches the port can then read and write everything.",
  }),
  MEMORY_API_KEYS_FILE: text({
    default: undefined,
    description:
      "File of API keys, one line each as printed by the command create-key. Calls then require credentials.",
  }),
  MEMORY_API_KEYS: secret("API keys, one line each. Alternative to MEMORY_API_KEYS_FILE."),
  MEMORY_JWT_ISSUER: text({
    default: undefined,
    description: "Issuer (iss) of accepted JSON Web Tokens. Calls then require a token or an API key.",
  }),
  MEMORY_JWT_AUDIENCE: text({
    default: undefined,
    description: "Audience (aud) of accepted tokens.",
  }),
  MEMORY_JWT_JWKS_URL: url({
    default: undefined,
    description: "URL of the issuer's JSON Web Key Set.",
  }),
  MEMORY_JWT_KEY_FILE: text({
    default: undefined,
    description:
      "File with the issuer's public key in PEM or a JSON Web Key Set. Alternative to MEMORY_JWT_JWKS_URL.",
  }),
  MEMORY_AUDIT_FILE: text({
    default: undefined,
    description:
      "File for the audit log. Defaults to the server log, where audit lines are marked with audit: true.",
  }),
  MEMORY_TLS_CERT_FILE: text({
    default: undefined,
    description:
      "Server certificate and intermediate certificates in PEM. The server then accepts TLS connections only.",
  }),
  MEMORY_TLS_KEY_FILE: text({
    default: undefined,
    description: "Private key of the server certificate, in PEM.",
  }),
  MEMORY_TLS_CLIENT_CA_FILE: text({
    default: undefined,
    description: "Authorities of client certificates, in PEM. Clients then need a certificate (mutual TLS).",
  }),
  MEMORY_API_KEY: secret("API key or token that client commands send to the server."),
  MEMORY_CA_FILE: text({
    default: undefined,
    description: "Authorities, in PEM, that client commands trust in addition to the system's.",
  }),
  MEMORY_CLIENT_CERT_FILE: text({
    default: undefined,
    description: "Client certificate, in PEM, that client commands present to a server with mutual TLS.",
  }),
  MEMORY_CLIENT_KEY_FILE: text({
    default: undefined,
    description: "Private key of the client certificate, in PEM.",
  }),
  MEMORY_ALLOWED_HOSTS: list({
    description: "Additional host names that requests to a server on loopback may use.",
    allowed: "host names separated by commas, each with an optional port",
    isItem: (item) => /^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$/.test(item),
  }),
  MEMORY_ALLOWED_ORIGINS: list({
    description: "Origins of browser pages that may call the server, such as https://app.example.com.",
    allowed: "origins separated by commas, each a scheme and a host without a path",
    isItem: (item) => URL.parse(item)?.origin === item.toLowerCase(),
  }),
  DATABASE_URL: postgresUrl(
    "PostgreSQL URL, such as postgres://user:password@host:5432/database. Alternative to POSTGRES_*.",
  ),
  POSTGRES_HOST: text({
    default: undefined,
    description: "PostgreSQL host. Setting any POSTGRES_* variable selects PostgreSQL.",
  }),
  POSTGRES_PORT: integer({ default: 5432, min: 1, max: 65535, description: "PostgreSQL port." }),
  POSTGRES_DB: text({ default: "postgres", description: "PostgreSQL database." }),
  POSTGRES_USER: text({ default: "postgres", description: "PostgreSQL user." }),
  POSTGRES_PASSWORD: secret("PostgreSQL password."),
  MEMORY_DATA_DIR: text({
    default: "./data",
    description: "Directory of the embedded engine. Used if PostgreSQL is not configured.",
  }),
  MEMORY_POOL_SIZE: integer({
    default: 10,
    min: 2,
    max: 1_000,
    unit: "connections",
    description: "Maximum number of connections to PostgreSQL.",
  }),
  MEMORY_STATEMENT_TIMEOUT_MS: integer({
    default: 30_000,
    min: 100,
    max: 3_600_000,
    unit: "ms",
    description: "Timeout of a single PostgreSQL statement.",
  }),
  MEMORY_PREPARED_STATEMENTS: boolean({
    default: true,
    description: "Use prepared statements. Set to false for connection poolers that do not support them.",
  }),
  MEMORY_MIGRATE: boolean({
    default: true,
    description:
      "Apply pending migrations at startup. Set to false if a database administrator applies them.",
  }),
  DEFAULT_MEMORY_DOMAIN: pattern({
    default: "default",
    pattern: /^[a-z][a-z0-9_-]{0,39}$/,
    allowed: "a lower-case letter, then at most 39 of a-z, 0-9, _ and -",
    description: "Domain of requests that omit the domain. Created at startup.",
  }),
  MEMORY_CREATE_DOMAINS: boolean({
    default: true,
    description: "Let Store, BatchStore and Import create domains that do not exist.",
  }),
  MEMORY_MAX_DOMAINS: integer({
    default: 0,
    min: 0,
    max: 100_000,
    unit: "domains",
    description:
      "Maximum number of domains, including existing ones. CreateDomain and storing fail beyond it. 0 means unlimited.",
  }),
  OLLAMA_API_URL: url({ default: "http://127.0.0.1:11434", description: "URL of Ollama." }),
  OLLAMA_EMBEDDING_MODEL: text({ default: "nomic-embed-text", description: "Default embedding model." }),
  MEMORY_MODEL_PROFILES: text({
    default: undefined,
    description:
      "Profiles for embedding models without a built-in profile, or to override one. JSON, or the path of a JSON file.",
  }),
  MEMORY_PULL_MODEL: boolean({
    default: true,
    description: "Let Ollama pull the embedding model if it is missing.",
  }),
  MEMORY_EMBED_BUDGET_MS: integer({
    default: 2_000,
    min: 0,
    max: 60_000,
    unit: "ms",
    description:
      "Maximum time a call waits for the embedder. After that, Store leaves the memory pending and Search uses full-text search.",
  }),
  MEMORY_MAX_CALLS: integer({
    default: 500,
    min: 1,
    max: 100_000,
    unit: "calls",
    description: "Maximum number of concurrent calls, including streams. Further calls fail with OVERLOADED.",
  }),
  MEMORY_REFLECTION: boolean({ default: true, description: "Enable gRPC server reflection." }),
  MEMORY_METRICS: boolean({ default: true, description: "Serve Prometheus metrics at GET /metrics." }),
  MEMORY_SHUTDOWN_GRACE_MS: integer({
    default: 10_000,
    min: 0,
    max: 600_000,
    unit: "ms",
    description: "Maximum time for running calls to finish after SIGTERM.",
  }),
  MEMORY_LOG_LEVEL: choice({
    choices: ["debug", "info", "warn", "error", "silent"],
    default: "info",
    description: "Minimum level of log lines.",
  }),
} as const satisfies Record<string, Setting<unknown>>;

export type SettingName = keyof typeof SETTINGS;
