import { type Clock, systemClock } from "../clock.ts";
import type { ModelProfile } from "../model-profile.ts";
import {
  createDegenerationGuard,
  embeddingsFromAnswer,
  MAX_UNKNOWN_DIMENSIONS,
  similarity,
} from "./embed-answer.ts";
import { invalidAnswer, OllamaError } from "./ollama-errors.ts";
import { createOllamaHttp } from "./ollama-http.ts";

export interface OllamaClientOptions {
  readonly url: string;
  /** Ollama's name of the model, with or without a tag. */
  readonly model: string;
  readonly profile: ModelProfile;
  /** Time-out for requests that need no model. Defaults to 5,000. */
  readonly metadataTimeoutMs?: number;
  readonly clock?: Clock;
}

export interface EmbedCall {
  readonly timeoutMs: number;
  /** Dimensions that every embedding must have; undefined accepts any. */
  readonly dimensions: number | undefined;
  /** Earlier embedding of the first text, which the new one must match; undefined if unknown. */
  readonly first?: Float32Array | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What Ollama reports about a model without loading it. */
export interface ModelFacts {
  /** Undefined if this version of Ollama does not report it. */
  readonly embeds: boolean | undefined;
  readonly dimensions: number | undefined;
}

export interface PullProgress {
  readonly status: string;
  readonly completedBytes: number;
  /** Size of the layers started so far; 0 while unknown. */
  readonly totalBytes: number;
}

/** A client for one model of one Ollama. Each call is one HTTP exchange without retries. */
export interface OllamaClient {
  /** Base URL without credentials. */
  readonly address: string;
  /** Model name with its tag, as Ollama lists it. */
  readonly model: string;
  /**
   * Embeds prepared texts, none of them empty. Returns Float32Arrays of unit length.
   *
   * @throws OllamaError; the signal's reason if it aborts.
   */
  embed(texts: readonly string[], call: EmbedCall): Promise<Float32Array[]>;
  version(signal?: AbortSignal): Promise<string>;
  /** Returns the digest of the model; "" if Ollama reports none, undefined if it does not have the model. */
  digest(signal?: AbortSignal): Promise<string | undefined>;
  /** @throws OllamaError `model-missing`. */
  facts(signal?: AbortSignal): Promise<ModelFacts>;
  /** Downloads the model. @throws OllamaError `model-missing` if no model of that name exists. */
  pull(onProgress: (progress: PullProgress) => void, signal?: AbortSignal): Promise<void>;
}

/** How long Ollama keeps the idle model in memory. With its own default of 5 minutes, many calls wait for the model to load. */
export const KEEP_ALIVE_SECONDS = 1_800;

/** Bound for the digits, sign, exponent and comma of one number. Go writes at most 15 characters for a float32. */
const BYTES_PER_NUMBER = 32;
const BYTES_PER_ANSWER = 65_536;

/** A list describes each model in a few hundred bytes, and `show` includes licences and templates. */
const MAX_METADATA_BYTES = 16 * 1024 * 1024;

/** The same text, alone and in a batch, has a higher cosine similarity despite numerical noise; other texts are far lower. */
const SAME_TEXT_SIMILARITY = 0.99;

/** Ollama sends nothing for minutes while it verifies a large layer. `fetch` itself times out at 300 s. */
const PULL_SILENCE_MS = 280_000;

export function createOllamaClient(options: OllamaClientOptions): OllamaClient {
  const { profile, clock = systemClock, metadataTimeoutMs = 5_000 } = options;
  const http = createOllamaHttp({ url: options.url, clock });
  const model = fullName(options.model);
  const guard = createDegenerationGuard([profile.queryPrefix, profile.documentPrefix]);

  function metadata(path: string, signal: AbortSignal | undefined, body?: unknown): Promise<unknown> {
    const method = body === undefined ? "GET" : "POST";
    return http.json({ method, path, body, timeoutMs: metadataTimeoutMs, signal }, MAX_METADATA_BYTES);
  }

  return {
    address: http.address,
    model,

    async embed(texts, { timeoutMs, dimensions, first, signal }) {
      const body = {
        model: options.model,
        input: texts,
        // By default Ollama silently truncates the text.
        truncate: false,
        ...(profile.shortenTo === undefined ? {} : { dimensions: profile.shortenTo }),
        keep_alive: KEEP_ALIVE_SECONDS,
        options: profile.options,
      };
      const maxBytes =
        BYTES_PER_ANSWER + texts.length * (dimensions ?? MAX_UNKNOWN_DIMENSIONS) * BYTES_PER_NUMBER;
      const answer = await http.json(
        { method: "POST", path: "/api/embed", body, timeoutMs, signal },
        maxBytes,
      );
      const embeddings = embeddingsFromAnswer(answer, { texts, model: options.model, dimensions });
      // This check precedes the guard, which remembers the embeddings that it checks.
      if (first !== undefined && similarity(embeddings[0], first) < SAME_TEXT_SIMILARITY) {
        throw invalidAnswer("the embedding of a known text has changed");
      }
      guard.check(texts, embeddings);
      return embeddings;
    },

    async version(signal) {
      const answer = await metadata("/api/version", signal);
      const version = stringIn(answer, "version");
      if (version === undefined) throw invalidAnswer("it has no version");
      return version;
    },

    async digest(signal) {
      const answer = await metadata("/api/tags", signal);
      const models = valueIn(answer, "models");
      if (!Array.isArray(models)) throw invalidAnswer("it has no list of models");
      const found = models.find((entry: unknown) => {
        const name = stringIn(entry, "model") ?? stringIn(entry, "name");
        return name !== undefined && fullName(name).toLowerCase() === model.toLowerCase();
      });
      return found === undefined ? undefined : (stringIn(found, "digest") ?? "");
    },

    async facts(signal) {
      const answer = await metadata("/api/show", signal, { model: options.model });
      const capabilities = valueIn(answer, "capabilities");
      const info = valueIn(answer, "model_info");
      const architecture = stringIn(info, "general.architecture");
      const dimensions = valueIn(info, `${architecture}.embedding_length`);
      return {
        embeds: Array.isArray(capabilities) ? capabilities.includes("embedding") : undefined,
        dimensions: typeof dimensions === "number" && dimensions > 0 ? dimensions : undefined,
      };
    },

    async pull(onProgress, signal) {
      const layers = new Map<string, { completed: number; total: number }>();
      let done = false;
      const onLine = (line: unknown) => {
        const error = stringIn(line, "error");
        if (error !== undefined) {
          const missing = /file does not exist|not found|invalid model name/i.test(error);
          throw new OllamaError(
            missing ? "model-missing" : "unavailable",
            `Ollama could not download it: ${error}`,
          );
        }
        const status = stringIn(line, "status") ?? "";
        if (status === "success") done = true;
        const digest = stringIn(line, "digest");
        const total = valueIn(line, "total");
        const completed = valueIn(line, "completed");
        if (digest !== undefined && typeof total === "number") {
          layers.set(digest, { total, completed: typeof completed === "number" ? completed : 0 });
        }
        const sum = (key: "completed" | "total") =>
          [...layers.values()].reduce((n, layer) => n + layer[key], 0);
        onProgress({ status, completedBytes: sum("completed"), totalBytes: sum("total") });
      };
      const body = { model: options.model, stream: true };
      await http.lines(
        { method: "POST", path: "/api/pull", body, timeoutMs: PULL_SILENCE_MS, signal },
        onLine,
      );
      if (!done) throw invalidAnswer("the download ended without success");
    },
  };
}

/** Returns the name in Ollama's list: with a tag, without the default registry and namespace. */
function fullName(model: string): string {
  const short = model.replace(/^registry\.ollama\.ai\//, "").replace(/^library\//, "");
  return (short.split("/").at(-1) ?? "").includes(":") ? short : `${short}:latest`;
}

function valueIn(object: unknown, key: string): unknown {
  return typeof object === "object" && object !== null ? Reflect.get(object, key) : undefined;
}

function stringIn(object: unknown, key: string): string | undefined {
  const value = valueIn(object, key);
  return typeof value === "string" ? value : undefined;
}
