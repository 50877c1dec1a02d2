/**
 * Every setting of the server, once: it is validated, documented in `--help` and docs/configuration.md from here.
 * The plan's names stay as they are; ours begin with MEMORY_.
 */
export interface Setting<T> {
  readonly kind: "text" | "secret" | "url" | "integer" | "boolean" | "list" | "choice";
  readonly description: string;
  /** As it would be written in the environment; undefined: unset. */
  readonly default: string | undefined;
  readonly unit?: string;
  /** What is allowed, in words, for the table and for errors. */
  readonly allowed: string;
  /** Undefined if the text is not allowed. */
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
      "a postgres:// or postgresql:// URL; in user and password @ is written as %40, # as %23, / as %2F and % as %25",
    parse: (value: string) => {
      // Of a Unix socket there is no host, which a URL must have beside a user.
      const parsed = URL.parse(value.replace("@/", "@socket/"));
      return parsed !== null && /^postgres(ql)?:$/.test(parsed.protocol) && areDecodable(parsed)
        ? value
        : undefined;
    },
  } as const satisfies Setting<string>;
}

/** True if user and password can be read: a bare % in them cannot. */
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
      "Address to listen on. Beyond loopback it needs API keys, tokens, client certificates or MEMORY_ALLOW_UNAUTHENTICATED=true.",
  }),
  MEMORY_PORT: integer({
    default: 50051,
    min: 0,
    max: 65535,
    description: "Port for gRPC, Connect, gRPC-Web, health and probes; 0 takes a free one.",
  }),
  MEMORY_ALLOW_UNAUTHENTICATED: boolean({
    default: false,
    description:
      "Listen beyond loopback without API keys or tokens: whoever reaches the port may read and write everything.",
  }),
  MEMORY_API_KEYS_FILE: text({
    default: undefined,
    description:
      "File of API keys, a line each as the command create-key writes it. Calls need credentials then.",
  }),
  MEMORY_API_KEYS: secret("The lines of such a file, instead of it."),
  MEMORY_JWT_ISSUER: text({
    default: undefined,
    description:
      "Issuer (iss) of the JSON Web Tokens that are accepted. Calls need one, or an API key, then.",
  }),
  MEMORY_JWT_AUDIENCE: text({
    default: undefined,
    description: "Audience (aud) that tokens must be meant for.",
  }),
  MEMORY_JWT_JWKS_URL: url({
    default: undefined,
    description: "Where the issuer publishes its keys, a JSON Web Key Set.",
  }),
  MEMORY_JWT_KEY_FILE: text({
    default: undefined,
    description: "Instead: a file with its public key in PEM, or with a JSON Web Key Set.",
  }),
  MEMORY_AUDIT_FILE: text({
    default: undefined,
    description:
      "File for the lines that say who changed what. Unset: they are in the log, marked by audit: true.",
  }),
  MEMORY_TLS_CERT_FILE: text({
    default: undefined,
    description:
      "Certificate of the server in PEM, with those between it and its authority. Then it speaks TLS only.",
  }),
  MEMORY_TLS_KEY_FILE: text({ default: undefined, description: "The key of that certificate, in PEM." }),
  MEMORY_TLS_CLIENT_CA_FILE: text({
    default: undefined,
    description: "Authorities, in PEM, of the certificates that clients must show then (mutual TLS).",
  }),
  MEMORY_API_KEY: secret("For the commands that ask a server: the API key or token that they show to it."),
  MEMORY_CA_FILE: text({
    default: undefined,
    description: "For these commands: authorities, in PEM, that they trust besides the usual ones.",
  }),
  MEMORY_CLIENT_CERT_FILE: text({
    default: undefined,
    description:
      "For these commands: the certificate, in PEM, that they show to a server which asks for one.",
  }),
  MEMORY_CLIENT_KEY_FILE: text({ default: undefined, description: "The key of that certificate, in PEM." }),
  MEMORY_ALLOWED_HOSTS: list({
    description: "Host names, besides those of loopback, that requests to a server on loopback may name.",
    allowed: "host names separated by commas, each with or without a port",
    isItem: (item) => /^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$/.test(item),
  }),
  MEMORY_ALLOWED_ORIGINS: list({
    description: "Origins of browser pages that may call the server, as https://app.example.com.",
    allowed: "origins separated by commas, each scheme and host without a path",
    isItem: (item) => URL.parse(item)?.origin === item.toLowerCase(),
  }),
  DATABASE_URL: postgresUrl(
    "PostgreSQL to use, as postgres://user:password@host:5432/database; instead of POSTGRES_*.",
  ),
  POSTGRES_HOST: text({
    default: undefined,
    description: "PostgreSQL host. Any POSTGRES_* selects PostgreSQL.",
  }),
  POSTGRES_PORT: integer({ default: 5432, min: 1, max: 65535, description: "PostgreSQL port." }),
  POSTGRES_DB: text({ default: "postgres", description: "PostgreSQL database." }),
  POSTGRES_USER: text({ default: "postgres", description: "PostgreSQL user." }),
  POSTGRES_PASSWORD: secret("PostgreSQL password."),
  MEMORY_DATA_DIR: text({
    default: "./data",
    description: "Directory of the embedded engine, used when no PostgreSQL is configured.",
  }),
  MEMORY_POOL_SIZE: integer({
    default: 10,
    min: 2,
    max: 1_000,
    unit: "connections",
    description: "Most connections to PostgreSQL at once.",
  }),
  MEMORY_STATEMENT_TIMEOUT_MS: integer({
    default: 30_000,
    min: 100,
    max: 3_600_000,
    unit: "ms",
    description: "Longest time for one statement on PostgreSQL.",
  }),
  MEMORY_PREPARED_STATEMENTS: boolean({
    default: true,
    description: "Prepare statements once a connection; false for poolers that do not know them.",
  }),
  MEMORY_MIGRATE: boolean({
    default: true,
    description: "Apply pending migrations at start; false where a DBA runs them.",
  }),
  DEFAULT_MEMORY_DOMAIN: pattern({
    default: "default",
    pattern: /^[a-z][a-z0-9_-]{0,39}$/,
    allowed: "a lower-case letter, then at most 39 of a-z, 0-9, _ and -",
    description: "Domain of requests that name none; made at start.",
  }),
  MEMORY_CREATE_DOMAINS: boolean({
    default: true,
    description: "Whether Store, BatchStore and Import make a domain that does not exist.",
  }),
  MEMORY_MAX_DOMAINS: integer({
    default: 0,
    min: 0,
    max: 100_000,
    unit: "domains",
    description:
      "Most domains that may be made, by CreateDomain or by storing, those that exist counted; 0: any number.",
  }),
  OLLAMA_API_URL: url({ default: "http://127.0.0.1:11434", description: "Where Ollama answers." }),
  OLLAMA_EMBEDDING_MODEL: text({ default: "nomic-embed-text", description: "Embedding model." }),
  MEMORY_MODEL_PROFILES: text({
    default: undefined,
    description:
      "How to speak to models that are not known, or otherwise than usual: JSON, or a file with it.",
  }),
  MEMORY_PULL_MODEL: boolean({
    default: true,
    description: "Have Ollama pull the embedding model if it lacks it.",
  }),
  MEMORY_EMBED_BUDGET_MS: integer({
    default: 2_000,
    min: 0,
    max: 60_000,
    unit: "ms",
    description:
      "Longest time a call waits for the embedder; then Store leaves the memory pending and Search answers from text.",
  }),
  MEMORY_MAX_CALLS: integer({
    default: 500,
    min: 1,
    max: 100_000,
    unit: "calls",
    description: "Most calls at once, streams included; more are refused as OVERLOADED.",
  }),
  MEMORY_REFLECTION: boolean({ default: true, description: "Answer gRPC server reflection." }),
  MEMORY_METRICS: boolean({ default: true, description: "Answer GET /metrics in Prometheus's format." }),
  MEMORY_SHUTDOWN_GRACE_MS: integer({
    default: 10_000,
    min: 0,
    max: 600_000,
    unit: "ms",
    description: "How long running calls may finish after SIGTERM.",
  }),
  MEMORY_LOG_LEVEL: choice({
    choices: ["debug", "info", "warn", "error", "silent"],
    default: "info",
    description: "Least important level that is logged.",
  }),
} as const satisfies Record<string, Setting<unknown>>;

export type SettingName = keyof typeof SETTINGS;
