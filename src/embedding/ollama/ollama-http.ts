import { type Clock, systemClock } from "../clock.ts";
import {
  errorFromStatus,
  errorFromTransport,
  invalidAnswer,
  OllamaError,
  timeoutError,
} from "./ollama-errors.ts";

export interface HttpRequest {
  readonly method: "GET" | "POST";
  /** Path below the base URL: `/api/embed`. */
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Time-out of the whole exchange up to the last byte; in `lines`, of each wait. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface OllamaHttp {
  /** Base URL without credentials, for messages. */
  readonly address: string;
  /**
   * Sends and receives JSON.
   *
   * @param maxBytes Maximum size of the answer; a larger one is invalid.
   * @throws OllamaError; the signal's reason if it aborts.
   */
  json(request: HttpRequest, maxBytes: number): Promise<unknown>;
  /** Calls `onLine` with each line of the answer as it arrives, parsed as JSON. Throws what `json` and `onLine` throw. */
  lines(request: HttpRequest, onLine: (line: unknown) => void): Promise<void>;
}

/** Ollama's error bodies are one sentence. A proxy's error page may be longer and does not help. */
const MAX_ERROR_BYTES = 65_536;
const MAX_LINE_LENGTH = 65_536;

export interface OllamaHttpOptions {
  /** Base URL. Its path is kept except for a trailing `/api`; `user:password@` becomes Basic authentication. */
  readonly url: string;
  readonly clock?: Clock;
}

/** @throws TypeError if `url` is not an http or https URL. */
export function createOllamaHttp(options: OllamaHttpOptions): OllamaHttp {
  const { clock = systemClock } = options;
  const { base, headers } = partsOf(options.url);

  /** Runs one exchange with its time-out, and converts every failure to an OllamaError. */
  async function exchange<T>(
    request: HttpRequest,
    read: (response: Response, rearm: () => void) => Promise<T>,
  ) {
    const deadline = new AbortController();
    const expire = () => deadline.abort(timeoutError(request.timeoutMs));
    let cancelTimer = clock.schedule(request.timeoutMs, expire);
    const rearm = () => {
      cancelTimer();
      cancelTimer = clock.schedule(request.timeoutMs, expire);
    };
    const { signal } = request;
    try {
      signal?.throwIfAborted();
      const response = await fetch(`${base}${request.path}`, {
        method: request.method,
        headers: request.body === undefined ? headers : { ...headers, "content-type": "application/json" },
        ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
        // A redirect must not send texts to another server.
        redirect: "manual",
        signal: signal === undefined ? deadline.signal : AbortSignal.any([signal, deadline.signal]),
      });
      try {
        if (!response.ok) throw await errorFromResponse(response);
        return await read(response, rearm);
      } finally {
        // An unread body would hold its connection. Cancelling a body that is read or broken may reject, which does not matter.
        if (!response.bodyUsed) await response.body?.cancel().catch(() => {});
      }
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (deadline.signal.aborted) throw deadline.signal.reason;
      throw error instanceof OllamaError ? error : errorFromTransport(error);
    } finally {
      cancelTimer();
    }
  }

  return {
    address: base,
    json(request, maxBytes) {
      return exchange(request, async (response) => {
        const length = Number(response.headers.get("content-length"));
        if (length > maxBytes) throw invalidAnswer(`it has ${length} bytes`);
        const text = await readText(response, maxBytes);
        if (text === undefined) throw invalidAnswer(`it has more than ${maxBytes} bytes`);
        return parseJson(text);
      });
    },
    lines(request, onLine) {
      return exchange(request, async (response, rearm) => {
        let rest = "";
        const decoder = new TextDecoder();
        for await (const bytes of bodyOf(response)) {
          rearm();
          const parts = (rest + decoder.decode(bytes, { stream: true })).split("\n");
          rest = parts.pop() ?? "";
          if (rest.length > MAX_LINE_LENGTH)
            throw invalidAnswer(`it has a line of more than ${MAX_LINE_LENGTH} characters`);
          for (const line of parts) if (line.trim() !== "") onLine(parseJson(line));
        }
        if (rest.trim() !== "") onLine(parseJson(rest));
      });
    },
  };
}

async function errorFromResponse(response: Response): Promise<OllamaError> {
  const text = (await readText(response, MAX_ERROR_BYTES)) ?? "";
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch {
    said = undefined;
  }
  if (typeof said !== "object" || said === null || !("error" in said)) {
    return errorFromStatus(response.status, text, false);
  }
  // Ollama 0.3.5 to 0.6.7 put an empty object where the text belongs.
  const { error } = said;
  return errorFromStatus(response.status, typeof error === "string" ? error : JSON.stringify(error), true);
}

/** Returns the body as text, or undefined as soon as it exceeds `maxBytes`. */
async function readText(response: Response, maxBytes: number): Promise<string | undefined> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of bodyOf(response)) {
    bytes += part.byteLength;
    // Leaving the loop cancels the body.
    if (bytes > maxBytes) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts, bytes).toString("utf8");
}

async function* bodyOf(response: Response): AsyncGenerator<Uint8Array> {
  if (response.body === null) return;
  for await (const part of response.body) yield part;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalidAnswer("it is not valid JSON");
  }
}

function partsOf(text: string): { base: string; headers: Record<string, string> } {
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new TypeError(`the address of Ollama must start with http:// or https://, not ${url.protocol}`);
  }
  // fetch rejects credentials in a URL, and they must not appear in a log.
  const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  const headers =
    credentials === ":" ? {} : { authorization: `Basic ${Buffer.from(credentials).toString("base64")}` };
  const path = url.pathname.replace(/\/+$/, "").replace(/\/api(\/embed|\/embeddings)?$/, "");
  return { base: `${url.origin}${path}`, headers: { accept: "application/json", ...headers } };
}
