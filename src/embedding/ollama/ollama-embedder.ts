import { type Embedder, type EmbeddingRole, EmbedError } from "../../memory/model/embedder.ts";
import type { Logger } from "../../util/logger.ts";
import { untilAborted } from "../../util/wait.ts";
import type { CircuitState } from "../circuit-breaker.ts";
import { type Clock, systemClock } from "../clock.ts";
import { type ModelProfile, prepareText, shortenedTo } from "../model-profile.ts";
import { profileForModel } from "../model-profiles.ts";
import { createQueryCache } from "../query-cache.ts";
import { createScheduler } from "../scheduler.ts";
import { COLD_TIMEOUT_MS, createBatchEmbedder } from "./embed-batch.ts";
import { createOllamaClient } from "./ollama-client.ts";
import { watchModel } from "./watch-model.ts";

export interface OllamaEmbedderOptions {
  /** Base URL: `http://127.0.0.1:11434`. */
  readonly url: string;
  readonly model: string;
  /** Whether to download the model if Ollama does not have it. */
  readonly pull: boolean;
  readonly logger: Logger;
  /** How to prepare texts for the model. Defaults to the built-in profile for its name. */
  readonly profile?: ModelProfile;
  /** Dimensions of the embeddings, for which the model must be trained. Defaults to those of the profile. */
  readonly dimensions?: number;
  readonly clock?: Clock;
  /** Returns a number from 0 to below 1 for the jitter of retries. Defaults to Math.random. */
  readonly random?: () => number;
  /** Time-out for a call to a loaded model, to which each character adds one millisecond. Defaults to 30,000. */
  readonly warmTimeoutMs?: number;
  /** Time-out for calls that need no model. Defaults to 5,000. */
  readonly metadataTimeoutMs?: number;
}

/** An embedder that reports figures for metrics. */
export interface OllamaEmbedder extends Embedder {
  readonly profile: ModelProfile;
  stats(): { readonly circuit: CircuitState; readonly waitingTexts: number; readonly cachedQueries: number };
}

/**
 * Creates an embedder for a model served by Ollama. Returns at once and checks Ollama in the background at intervals, so that
 * the embedder becomes available whenever Ollama and its model do.
 *
 * @throws TypeError if `url` is not an http or https URL. An unavailable Ollama does not prevent the start.
 */
export function createOllamaEmbedder(options: OllamaEmbedderOptions): OllamaEmbedder {
  const { logger, clock = systemClock, warmTimeoutMs = 30_000 } = options;
  const own = options.profile ?? profileForModel(options.model);
  const profile = options.dimensions === undefined ? own : shortenedTo(own, options.dimensions);
  const client = createOllamaClient({ ...options, profile, clock });
  const cache = createQueryCache();
  const scheduler = createScheduler({ run });
  const lifetime = new AbortController();
  const watch = watchModel({
    client,
    model: options.model,
    profile,
    nativeDimensions: own.shortenTo === undefined ? own.dimensions : undefined,
    pull: options.pull,
    logger,
    clock,
    coldTimeoutMs: COLD_TIMEOUT_MS,
    signal: lifetime.signal,
    onSpace: () => cache.clear(),
  });

  const embedBatch = createBatchEmbedder({
    ...options,
    client,
    watch,
    clock,
    warmTimeoutMs,
    signal: lifetime.signal,
  });

  function closedError(): EmbedError {
    return new EmbedError("unavailable", "the embedder is closed");
  }

  /** Embeds one batch of the scheduler. */
  async function run(texts: readonly string[], role: EmbeddingRole): Promise<readonly Float32Array[]> {
    for (;;) {
      const before = watch.space;
      if (before === undefined || watch.phase !== "ready") throw watch.failure();
      const embeddings = await embedBatch(texts, before, role === "document" || texts.length > 1);
      // The model was replaced during the call, so it is unknown which model made these embeddings.
      if (watch.space !== before) continue;
      if (role === "query")
        for (const [i, embedding] of embeddings.entries()) cache.set(before, texts[i] ?? "", embedding);
      return embeddings;
    }
  }

  async function embed(
    texts: readonly string[],
    role: EmbeddingRole,
    signal?: AbortSignal,
  ): Promise<Float32Array[]> {
    signal?.throwIfAborted();
    if (lifetime.signal.aborted) throw closedError();
    const prepared = texts.map((text) => {
      if (profile.clean(text).trim() === "") throw new EmbedError("rejected", "the text is empty");
      return prepareText(profile, text, role);
    });
    const before = watch.space;
    const results = prepared.map((text) =>
      before !== undefined && role === "query" ? cache.get(before, text) : undefined,
    );
    const uncached = prepared.filter((_, i) => results[i] === undefined);
    if (uncached.length > 0) {
      while (watch.phase === "checking") await untilAborted(watch.firstCheck, signal);
      if (lifetime.signal.aborted) throw closedError();
      if (watch.phase !== "ready") throw watch.failure();
      const fresh = await scheduler.submit(uncached, role, signal);
      // Cached and fresh embeddings would belong to different spaces.
      if (uncached.length < texts.length && watch.space !== before) return embed(texts, role, signal);
      let next = 0;
      for (const i of results.keys()) results[i] ??= fresh[next++];
    }
    return results.filter((embedding) => embedding !== undefined);
  }

  return {
    profile,
    maxChunkLength: profile.maxChunkLength,
    embed,
    space: () => watch.space,
    status() {
      if (lifetime.signal.aborted) return { available: false, reason: "the embedder is closed" };
      return { available: watch.phase === "ready", reason: watch.reason };
    },
    stats: () => ({ circuit: watch.circuit, waitingTexts: scheduler.waiting, cachedQueries: cache.size }),
    onAvailable: watch.onAvailable,
    async close() {
      if (!lifetime.signal.aborted) lifetime.abort(closedError());
      scheduler.close(closedError());
      await watch.close();
    },
  };
}
