import { EmbedError, type EmbedFailureKind } from "../../memory/model/embedder.ts";
import { messageOf } from "../../util/error-message.ts";

/**
 * When to retry the same request after a failure.
 *
 * - `now`: once, immediately. The connection was stale, which says nothing about the server.
 * - `soon`: after a pause.
 * - `no`: never. The request would fail again, or has already taken too long.
 */
export type RetryAdvice = "now" | "soon" | "no";

export interface OllamaErrorOptions {
  readonly retry?: RetryAdvice;
  /** Whether the engine crashed or returned an invalid answer. A harmless text can show whether it is broken or these texts break it. */
  readonly suspect?: boolean;
  /** Whether the server failed to answer in time. */
  readonly timedOut?: boolean;
  /** Whether no server is listening, so that the next call would fail too. */
  readonly refused?: boolean;
  /** What an operator can do. */
  readonly remedy?: string;
  readonly cause?: unknown;
}

/** A failed request to Ollama, with advice for the embedder that its callers do not need. */
export class OllamaError extends EmbedError {
  readonly retry: RetryAdvice;
  readonly suspect: boolean;
  readonly timedOut: boolean;
  readonly refused: boolean;
  readonly remedy: string | undefined;

  constructor(kind: EmbedFailureKind, message: string, options: OllamaErrorOptions = {}) {
    super(kind, message, { cause: options.cause });
    this.retry = options.retry ?? "no";
    this.suspect = options.suspect ?? false;
    this.timedOut = options.timedOut ?? false;
    this.refused = options.refused ?? false;
    this.remedy = options.remedy;
  }
}

/** Returns the failure and its remedy as one sentence for an operator. */
export function sentenceFrom(error: unknown): string {
  if (!(error instanceof OllamaError) || error.remedy === undefined) {
    return messageOf(error);
  }
  return `${error.message}: ${error.remedy}`;
}

/** The messages for a text that is too long, from Ollama 0.3 to 0.33 and its llama.cpp server. */
const TOO_LONG =
  /exceeds? (the )?(maximum )?context (length|size)|input( length)? exceeds|too large to process|increase the physical batch size/i;
const NOT_A_NUMBER = /\bNaN\b|\bInf\b|unsupported value/i;
const NO_EMBEDDINGS = /does not support embeddings/i;
const MODEL_NOT_FOUND = /model .* not found|invalid model name/i;

/** The messages for a crash of Ollama's engine, which Ollama reports as status 400 since 0.13.3. */
const ENGINE_FAILURE =
  /EOF|connection (refused|reset)|broken pipe|no slots|unexpected server status|llama-server|no longer running|not responding/i;

/**
 * Returns the error for an answer with a status other than success.
 *
 * @param text The `error` field of the body; the whole body if it has none.
 */
export function errorFromStatus(status: number, text: string, fromOllama: boolean): OllamaError {
  const said = text === "" ? `status ${status}` : `status ${status}: ${shorten(text)}`;
  if (status >= 300 && status < 400) {
    return new OllamaError(
      "unavailable",
      `Ollama's address redirects elsewhere (${said}); redirects are not followed`,
      { remedy: "set OLLAMA_API_URL to the redirect's target" },
    );
  }
  if (status === 401 || status === 403 || status === 407) {
    return new OllamaError("unavailable", `Ollama denied access (${said})`, {
      remedy: "set OLLAMA_API_URL with user and password, such as https://user:password@host",
    });
  }
  if (status === 404 && !fromOllama) {
    return new OllamaError("unavailable", `no Ollama of version 0.3 or later at this address (${said})`, {
      remedy: "check OLLAMA_API_URL, or update Ollama",
    });
  }
  if (status === 404 || MODEL_NOT_FOUND.test(text))
    return new OllamaError("model-missing", `Ollama: ${said}`);
  if (status === 501 || NO_EMBEDDINGS.test(text)) {
    return new OllamaError("model-missing", `the model does not produce embeddings (${said})`);
  }
  if (TOO_LONG.test(text) || status === 413) {
    return new OllamaError("too-long", `the text is too long for the model (${said})`);
  }
  if (NOT_A_NUMBER.test(text)) return new OllamaError("rejected", `the model fails on this text (${said})`);
  if (ENGINE_FAILURE.test(text)) {
    return new OllamaError("unavailable", `Ollama's engine failed (${said})`, {
      retry: "soon",
      suspect: true,
      remedy: "see Ollama's log",
    });
  }
  if (status >= 500 || status === 408 || status === 429 || status === 499) {
    return new OllamaError("unavailable", `Ollama failed (${said})`, {
      retry: "soon",
      remedy: "see Ollama's log",
    });
  }
  return new OllamaError("rejected", `Ollama rejected the request (${said})`);
}

/** Returns the error for a request without a complete answer. */
export function errorFromTransport(cause: unknown): OllamaError {
  const code = codeOf(cause);
  const stale = code === "UND_ERR_SOCKET" || code === "ECONNRESET" || code === "EPIPE";
  const refused = code === "ECONNREFUSED";
  const what = stale ? "closed the connection" : refused ? "is not listening" : "cannot be reached";
  return new OllamaError("unavailable", `Ollama ${what}${code === undefined ? "" : ` (${code})`}`, {
    // A restart takes longer than a caller should wait.
    retry: stale ? "now" : refused ? "no" : "soon",
    refused,
    remedy: refused
      ? 'start it with "ollama serve", or set OLLAMA_API_URL'
      : "check OLLAMA_API_URL and the network",
    cause,
  });
}

export function timeoutError(timeoutMs: number): OllamaError {
  return new OllamaError("unavailable", `Ollama did not answer within ${Math.round(timeoutMs / 1000)} s`, {
    timedOut: true,
    remedy: "it may be loading the model or be overloaded; see its log",
  });
}

/** Returns the error for an answer that has a status of success and is invalid. */
export function invalidAnswer(what: string): OllamaError {
  return new OllamaError("unavailable", `Ollama returned an invalid answer: ${what}`, {
    retry: "soon",
    suspect: true,
  });
}

/** Returns the system's code of a network error, however deeply `fetch` wraps it. */
function codeOf(error: unknown): string | undefined {
  let current: unknown = error;
  for (let depth = 0; depth < 5 && typeof current === "object" && current !== null; depth++) {
    if ("code" in current && typeof current.code === "string") return current.code;
    if (current instanceof AggregateError && current.errors.length > 0) current = current.errors[0];
    else current = "cause" in current ? current.cause : undefined;
  }
  return undefined;
}

function shorten(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > 200 ? `${line.slice(0, 200)}...` : line;
}
