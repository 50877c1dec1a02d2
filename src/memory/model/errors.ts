/**
 * Why a call failed. The names are those of `memoryservice.v1.ErrorReason` without its prefix; the RPC edge
 * maps each to one status code (src/rpc/interceptors/errors.ts).
 */
export type ErrorReason =
  | "INVALID_ARGUMENT"
  | "INVALID_PAGE_TOKEN"
  | "MEMORY_NOT_FOUND"
  | "DOMAIN_NOT_FOUND"
  | "MEMORY_ALREADY_EXISTS"
  | "DOMAIN_ALREADY_EXISTS"
  | "VERSION_MISMATCH"
  | "CONFLICT"
  | "SCHEMA_MISMATCH"
  | "RESPONSE_TOO_LARGE"
  | "DOMAIN_LIMIT_REACHED"
  | "OVERLOADED"
  | "STORAGE_FULL"
  | "DATABASE_UNAVAILABLE"
  | "EMBEDDER_UNAVAILABLE"
  | "OUTCOME_UNKNOWN"
  | "SHUTTING_DOWN"
  | "DEADLINE_EXCEEDED"
  | "CANCELED"
  | "AUTHENTICATION_UNAVAILABLE"
  | "UNAUTHENTICATED"
  | "PERMISSION_DENIED"
  | "HOST_NOT_ALLOWED"
  | "NOT_IMPLEMENTED"
  | "INTERNAL";

/** One field of a request that broke a rule. */
export interface FieldViolation {
  /** Path in the request message, in proto names: `content`, `items[3].metadata`. */
  readonly field: string;
  /** What is wrong and what is allowed: `must have 1 to 50 characters, has 64`. */
  readonly description: string;
}

export interface ServiceErrorOptions {
  /** Facts a program may branch on, such as the current version; never driver text, SQL or paths. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  /** Set where repeating the same call may help: how long to wait before it, in milliseconds. */
  readonly retryAfterMs?: number;
  /** What really happened. Logged, never sent. */
  readonly cause?: unknown;
}

/** The one error that the service throws on purpose; everything else that reaches the edge is a defect. */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
  readonly reason: ErrorReason;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;

  constructor(reason: ErrorReason, message: string, options: ServiceErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.reason = reason;
    this.metadata = options.metadata ?? {};
    this.violations = options.violations ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Does nothing without violations. @throws ServiceError INVALID_ARGUMENT that lists all violations. */
export function assertNoViolations(violations: readonly FieldViolation[]): void {
  const first = violations[0];
  if (first === undefined) return;
  const more = violations.length > 1 ? ` (and ${violations.length - 1} more)` : "";
  throw new ServiceError("INVALID_ARGUMENT", `${first.field}: ${first.description}${more}`, { violations });
}

/** Returns the error for a domain that does not exist. */
export function domainNotFound(name: string, cause?: unknown): ServiceError {
  return new ServiceError(
    "DOMAIN_NOT_FOUND",
    `domain "${name}" does not exist; call ListDomains to see existing domains`,
    {
      metadata: { domain: name },
      cause,
    },
  );
}

/** Returns the error for a memory that does not exist. */
export function memoryNotFound(domain: string, id: string): ServiceError {
  return new ServiceError("MEMORY_NOT_FOUND", `memory "${id}" does not exist in domain "${domain}"`, {
    metadata: { domain, id },
  });
}

/** Returns whether an error is the abort or the time-out of a signal. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === "AbortError" || error.name === "TimeoutError");
}

/** Returns the error for a change that expects another version of the memory. */
export function versionMismatch(
  { domain, id }: { readonly domain: string; readonly id: string },
  expected: bigint | undefined,
  current: bigint,
): ServiceError {
  return new ServiceError(
    "VERSION_MISMATCH",
    `memory "${id}" in domain "${domain}" is at version ${current}, not ${expected}`,
    { metadata: { domain, id, expected_version: String(expected), current_version: String(current) } },
  );
}
