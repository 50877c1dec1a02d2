import { EmbedError, type EmbedFailureKind } from "../embedder.ts";

/**
 * What to do with the same request after a failure.
 *
 * - `now`: once, at once. The connection was closed under us; nothing is known about the server.
 * - `soon`: after a pause.
 * - `no`: it would fail again, or has taken too long already.
 */
export type RetryAdvice = "now" | "soon" | "no";

export interface OllamaErrorOptions {
  readonly retry?: RetryAdvice;
  /** The engine crashed or gave nonsense: it is broken, or these texts break it. A harmless text can tell. */
  readonly suspect?: boolean;
  /** The server did not answer in time. */
  readonly timedOut?: boolean;
  /** Nobody listens: the next call would hear the same. */
  readonly refused?: boolean;
  /** What an operator can do about it. */
  readonly remedy?: string;
  readonly cause?: unknown;
}

/** A failure of one request to Ollama, with advice that the embedder needs and its callers do not. */
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

/** What went wrong and what to do about it, as one sentence for an operator. */
export function sentenceFrom(error: unknown): string {
  if (!(error instanceof OllamaError) || error.remedy === undefined) {
    return error instanceof Error ? error.message : String(error);
  }
  return `${error.message}: ${error.remedy}`;
}

/** Wordings of "too long" from Ollama 0.3 to 0.33 and of the llama.cpp server behind it. */
const TOO_LONG =
  /exceeds? (the )?(maximum )?context (length|size)|input( length)? exceeds|too large to process|increase the physical batch size/i;
const NOT_A_NUMBER = /\bNaN\b|\bInf\b|unsupported value/i;
const NO_EMBEDDINGS = /does not support embeddings/i;
const MODEL_NOT_FOUND = /model .* not found|invalid model name/i;

/** A crash of the engine under Ollama, which it reports as status 400 since 0.13.3. */
const ENGINE_FAILURE =
  /EOF|connection (refused|reset)|broken pipe|no slots|unexpected server status|llama-server|no longer running|not responding/i;

/**
 * The error for an answer that is no success.
 *
 * @param text The `error` of its body; whatever else the body was, where it had none.
 */
export function errorFromStatus(status: number, text: string, fromOllama: boolean): OllamaError {
  const said = text === "" ? `status ${status}` : `status ${status}: ${shorten(text)}`;
  if (status >= 300 && status < 400) {
    return new OllamaError(
      "unavailable",
      `Ollama's address redirects elsewhere (${said}), which is not followed`,
      { remedy: "set OLLAMA_API_URL to where it redirects" },
    );
  }
  if (status === 401 || status === 403 || status === 407) {
    return new OllamaError("unavailable", `access to Ollama was refused (${said})`, {
      remedy: "set OLLAMA_API_URL with user and password, as https://user:password@host",
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
    return new OllamaError("model-missing", `the model makes no embeddings (${said})`);
  }
  if (TOO_LONG.test(text) || status === 413) {
    return new OllamaError("too-long", `the text is longer than the model takes (${said})`);
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
  return new OllamaError("rejected", `Ollama refused the request (${said})`);
}

/** The error for a request that got no complete answer. */
export function errorFromTransport(cause: unknown): OllamaError {
  const code = codeOf(cause);
  const stale = code === "UND_ERR_SOCKET" || code === "ECONNRESET" || code === "EPIPE";
  const refused = code === "ECONNREFUSED";
  const what = stale ? "closed the connection" : refused ? "is not listening" : "cannot be reached";
  return new OllamaError("unavailable", `Ollama ${what}${code === undefined ? "" : ` (${code})`}`, {
    // A restart takes longer than anybody should wait.
    retry: stale ? "now" : refused ? "no" : "soon",
    refused,
    remedy: refused
      ? 'start it with "ollama serve", or set OLLAMA_API_URL'
      : "check OLLAMA_API_URL, and the network between",
    cause,
  });
}

export function timeoutError(timeoutMs: number): OllamaError {
  return new OllamaError("unavailable", `Ollama did not answer within ${Math.round(timeoutMs / 1000)} s`, {
    timedOut: true,
    remedy: "it may be loading the model or be overloaded, see its log",
  });
}

/** An answer with a status of success that cannot be believed. */
export function invalidAnswer(what: string): OllamaError {
  return new OllamaError("unavailable", `Ollama gave an invalid answer: ${what}`, {
    retry: "soon",
    suspect: true,
  });
}

/** The system's code of a network error, however deep `fetch` has wrapped it. */
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
