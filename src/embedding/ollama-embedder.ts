import type { Logger } from "../logger.ts";
import { type CircuitState, createCircuitBreaker } from "./circuit-breaker.ts";
import { type Clock, systemClock, waitUnlessAborted } from "./clock.ts";
import { similarity } from "./embed-answer.ts";
import {
  type Embedder,
  type EmbeddingRole,
  type EmbeddingSpace,
  EmbedError,
  SAME_ENGINE_SIMILARITY,
} from "./embedder.ts";
import {
  canShortenTo,
  describeDimensions,
  type ModelProfile,
  prepareText,
  shortenedTo,
} from "./model-profile.ts";
import { profileForModel } from "./model-profiles.ts";
import { createOllamaClient } from "./ollama-client.ts";
import { OllamaError, sentenceFrom } from "./ollama-errors.ts";
import { createPullProgressLog } from "./pull-progress.ts";
import { createQueryCache, spaceKey } from "./query-cache.ts";
import { withRetries } from "./retry.ts";
import { createScheduler } from "./scheduler.ts";

export interface OllamaEmbedderOptions {
  /** Base URL: `http://127.0.0.1:11434`. */
  readonly url: string;
  readonly model: string;
  /** Download the model if Ollama lacks it. */
  readonly pull: boolean;
  readonly logger: Logger;
  /** How to speak to the model. Default: the built-in profile for its name. */
  readonly profile?: ModelProfile;
  /** Length of the embeddings to make, which the model must be trained for. Default: that of the profile. */
  readonly dimensions?: number;
  readonly clock?: Clock;
  /** From 0 to below 1, for the jitter of retries. Default Math.random. */
  readonly random?: () => number;
  /** For a call that may have to load the model first. Default 120,000. */
  readonly coldTimeoutMs?: number;
  /** For a call to a loaded model, plus one millisecond for each character. Default 30,000. */
  readonly warmTimeoutMs?: number;
  /** For calls that need no model. Default 5,000. */
  readonly metadataTimeoutMs?: number;
  /** Between looks at an Ollama that cannot be used. Default 2,000. */
  readonly awayCheckMs?: number;
  /** Between looks at one that can, to notice another model under the same name. Default 30,000. */
  readonly readyCheckMs?: number;
  /** How long Ollama keeps the idle model loaded; negative: for ever. Default 1,800. */
  readonly keepAliveSeconds?: number;
  /** Batches under way at a time. Default 1. */
  readonly concurrency?: number;
  /** Texts in a batch. Default 32. */
  readonly maxBatchTexts?: number;
  /** UTF-16 code units in a batch. Default 16,000. */
  readonly maxBatchLength?: number;
  /** Texts waiting for each role. Default 4,096. */
  readonly maxWaitingTexts?: number;
  /** Cached embeddings of queries. Default 1,000. */
  readonly queryCacheEntries?: number;
}

/** The embedder with figures for metrics. */
export interface OllamaEmbedder extends Embedder {
  readonly profile: ModelProfile;
  stats(): { readonly circuit: CircuitState; readonly waitingTexts: number; readonly cachedQueries: number };
}

/** What the embedder can do for its callers now. */
type Phase =
  /** The first look is not finished: callers wait for it. */
  | { readonly kind: "checking" }
  | { readonly kind: "ready" }
  /** Later looks may change it; callers fail at once. */
  | { readonly kind: "away" | "missing" | "pulling"; readonly reason: string };

/**
 * Two short texts, sent together, that wake the model and show that it works: its dimensions, no zeros, not the
 * same for everything. They also decide whether a text or the model is to blame for a failure.
 */
const PROBE_TEXTS = ["a canary sings", "interest rates rose again in march"] as const;

/**
 * Goes first in every batch that is stored or has several texts, and has to come back as it was: so a model that was
 * exchanged, an engine that was upgraded (#14449) and answers in the wrong order (#6262) are seen before anything of
 * theirs is believed. Costs one short text for up to 32.
 */
const [CANARY] = PROBE_TEXTS;

const MS_PER_CHARACTER = 1;

/** `fetch` itself gives up after 300 s without headers. */
const MAX_TIMEOUT_MS = 280_000;

const MIN_PULL_RETRY_MS = 30_000;
const MAX_PULL_RETRY_MS = 600_000;

/**
 * Embeds with a model served by Ollama. Returns at once: Ollama is looked at in the background, again and again,
 * so that the embedder becomes usable by itself whenever Ollama and its model do.
 *
 * @throws TypeError if `url` is no http or https URL. Nothing else: an embedder that is away is no reason not to start.
 */
export function createOllamaEmbedder(options: OllamaEmbedderOptions): OllamaEmbedder {
  const { logger, clock = systemClock, coldTimeoutMs = 120_000, warmTimeoutMs = 30_000 } = options;
  const { awayCheckMs = 2_000, readyCheckMs = 30_000, keepAliveSeconds = 1_800 } = options;
  const own = options.profile ?? profileForModel(options.model);
  const profile = options.dimensions === undefined ? own : shortenedTo(own, options.dimensions);
  const client = createOllamaClient({ ...options, profile, keepAliveSeconds, clock });
  const cache = createQueryCache(options.queryCacheEntries);
  const scheduler = createScheduler({ ...options, run });
  const breaker = createCircuitBreaker({ clock, onChange: onCircuitChange });
  const lifetime = new AbortController();
  const listeners = new Set<() => void>();
  const named = `model "${client.model}" of Ollama at ${client.address}`;

  let phase: Phase = { kind: "checking" };
  const firstLook = Promise.withResolvers<void>();
  let space: EmbeddingSpace | undefined;
  /** That of the server when the space was measured. */
  let version: string | undefined;
  let answeredAt = Number.NEGATIVE_INFINITY;
  let lastFailure = "";
  let reachable = true;
  let metadataFailed = false;
  let pullRetryMs = MIN_PULL_RETRY_MS;
  let pullAllowedAt = Number.NEGATIVE_INFINITY;
  let pullFailure = "";
  let checking: Promise<void> | undefined;
  let cancelNextCheck = () => {};

  function become(next: Phase) {
    if (lifetime.signal.aborted) return;
    const before = phase;
    phase = next;
    if (next.kind === "checking") return;
    firstLook.resolve();
    if (next.kind === "ready") {
      if (before.kind !== "ready") logger.info(loggable(space), `${named} is ready`);
    } else if (before.kind !== next.kind || before.reason !== next.reason) {
      logger.warn({ state: next.kind }, next.reason);
    }
  }

  function away(error: unknown) {
    lastFailure = sentenceFrom(error);
    become({ kind: "away", reason: `${named} cannot be used: ${lastFailure}` });
  }

  function missing(why: string) {
    become({ kind: "missing", reason: `${named} ${why}` });
  }

  function onCircuitChange(state: CircuitState) {
    if (state !== "open") return;
    become({ kind: "away", reason: `${named} cannot be used: ${lastFailure}` });
    if (checking === undefined) scheduleCheck();
  }

  function scheduleCheck() {
    cancelNextCheck();
    if (lifetime.signal.aborted) return;
    const untilProbe = breaker.retryInMs;
    let delay = phase.kind === "ready" && !metadataFailed ? readyCheckMs : awayCheckMs;
    if (phase.kind === "away" && untilProbe > 0) delay = Math.min(delay, untilProbe);
    cancelNextCheck = clock.schedule(delay, check, true);
  }

  /** Looks at Ollama; one look at a time, so there is never more than one warm-up either. */
  function check(): void {
    if (checking !== undefined || lifetime.signal.aborted) return;
    cancelNextCheck();
    checking = look()
      .catch((error: unknown) => {
        if (lifetime.signal.aborted) return;
        logger.error({ err: error }, "looking at Ollama failed unexpectedly");
        away(error);
      })
      .finally(() => {
        checking = undefined;
        scheduleCheck();
      });
  }

  async function look(): Promise<void> {
    const { signal } = lifetime;
    let digest: string | undefined;
    let versionNow: string;
    try {
      versionNow = await client.version(signal);
      digest = await client.digest(signal);
      metadataFailed = false;
    } catch (error) {
      if (!(error instanceof OllamaError)) throw error;
      metadataFailed = true;
      lastFailure = sentenceFrom(error);
      // A busy Ollama may be slow to answer this and still embed: a single failure changes nothing.
      if (phase.kind === "ready") return breaker.failed();
      reachable = false;
      return away(error);
    }
    if (!reachable) {
      reachable = true;
      breaker.hurry();
    }
    if (digest === undefined) return (await pulled()) ? look() : undefined;
    if (phase.kind === "ready" && space?.digest === digest && version === versionNow) return;
    version = versionNow;
    await warmUp(digest);
  }

  /**
   * Why embeddings of the length that is wanted cannot be made; undefined if they can, or if that is not known yet. Ollama
   * itself cuts those of any model.
   *
   * @param native the model's own length, if it is known
   */
  function refusedDimensions(native: number | undefined): string | undefined {
    const { shortenTo } = profile;
    if (shortenTo === undefined || native === undefined || shortenTo === native) return undefined;
    if (shortenTo < native && canShortenTo(profile, shortenTo)) return undefined;
    return `makes ${native} dimensions, and cannot make ${shortenTo}: it can make ${describeDimensions(profile, native)}`;
  }

  /** Wakes the model and takes its measure. */
  async function warmUp(digest: string): Promise<void> {
    const { signal } = lifetime;
    if (breaker.state !== "closed" && !breaker.tryProbe()) return;
    try {
      const facts = await client.facts(signal);
      if (facts.embeds === false) {
        breaker.succeeded();
        return missing(
          "makes no embeddings: set OLLAMA_EMBEDDING_MODEL to an embedding model, such as nomic-embed-text",
        );
      }
      const refusal = refusedDimensions(facts.dimensions);
      if (refusal !== undefined) {
        breaker.succeeded();
        return missing(refusal);
      }
      const dimensions = profile.shortenTo ?? facts.dimensions ?? profile.dimensions;
      if (dimensions !== profile.dimensions && profile.dimensions !== undefined) {
        logger.warn({ dimensions, usual: profile.dimensions }, `${named} has unusual dimensions`);
      }
      const call = { timeoutMs: coldTimeoutMs, dimensions, signal };
      const [alone] = await client.embed([CANARY], call);
      if (alone === undefined) return;
      await client.embed(PROBE_TEXTS, { ...call, first: alone });
      answeredAt = clock.now();
      breaker.succeeded();
      enter({ model: client.model, digest, dimensions: alone.length, profile: profile.name, probe: alone });
    } catch (error) {
      if (!(error instanceof OllamaError)) {
        breaker.abandoned();
        throw error;
      }
      if (error.kind === "model-missing") {
        breaker.succeeded();
        return missing(`cannot be used: ${error.message}`);
      }
      lastFailure = sentenceFrom(error);
      breaker.failed({ trip: true });
      away(error);
    }
  }

  /** Opens for callers, in `next`. */
  function enter(next: EmbeddingSpace) {
    const otherModel = space === undefined || spaceKey(space) !== spaceKey(next);
    const otherEngine = !otherModel && similarity(space?.probe, next.probe) < SAME_ENGINE_SIMILARITY;
    if (otherEngine) {
      logger.warn({}, `${named} embeds differently than before, with the same digest: was Ollama upgraded?`);
    } else if (otherModel && space !== undefined) {
      logger.warn({ before: loggable(space), now: loggable(next) }, `${named} has changed`);
    }
    const changed = otherModel || otherEngine;
    if (changed) {
      space = next;
      cache.clear();
    }
    const wasReady = phase.kind === "ready";
    become({ kind: "ready" });
    if (changed || !wasReady) for (const listener of [...listeners]) notify(listener);
  }

  function notify(listener: () => void) {
    try {
      listener();
    } catch (error) {
      logger.error({ err: error }, "a listener of the embedder failed");
    }
  }

  /** Downloads the model if that is wanted and due. True if Ollama has it now. */
  async function pulled(): Promise<boolean> {
    const remedy = `run "ollama pull ${options.model}"`;
    if (!options.pull) {
      missing(`is not there: ${remedy}`);
      return false;
    }
    if (clock.now() < pullAllowedAt) {
      missing(pullFailure);
      return false;
    }
    become({ kind: "pulling", reason: `${named} is being downloaded` });
    try {
      await client.pull(
        createPullProgressLog((percent) => {
          logger.info({ percent }, `downloading ${named}`);
          phase = { kind: "pulling", reason: `${named} is being downloaded (${percent} %)` };
        }),
        lifetime.signal,
      );
      pullRetryMs = MIN_PULL_RETRY_MS;
      return true;
    } catch (error) {
      if (!(error instanceof OllamaError)) throw error;
      pullAllowedAt = clock.now() + pullRetryMs;
      pullRetryMs = Math.min(pullRetryMs * 2, MAX_PULL_RETRY_MS);
      pullFailure = `is not there and downloading it failed (${error.message}): ${remedy}`;
      missing(pullFailure);
      return false;
    }
  }

  function failureNow(): EmbedError {
    switch (phase.kind) {
      case "missing":
        return new EmbedError("model-missing", phase.reason);
      case "away":
      case "pulling":
        return new EmbedError("unavailable", phase.reason);
      default:
        return new EmbedError("unavailable", `${named} is not ready`);
    }
  }

  function closedError(): EmbedError {
    return new EmbedError("unavailable", "the embedder is closed");
  }

  /** Embeds one batch for the scheduler. */
  async function run(texts: readonly string[], role: EmbeddingRole): Promise<readonly Float32Array[]> {
    for (;;) {
      const before = space;
      if (before === undefined || phase.kind !== "ready") throw failureNow();
      const embeddings = await attempt(texts, before, role === "document" || texts.length > 1);
      // Another model answered under the same name while this was under way: whose embeddings these are is unknown.
      if (space !== before) continue;
      if (role === "query")
        for (const [i, embedding] of embeddings.entries()) cache.set(before, texts[i] ?? "", embedding);
      return embeddings;
    }
  }

  async function attempt(
    texts: readonly string[],
    within: EmbeddingSpace,
    withCanary: boolean,
  ): Promise<Float32Array[]> {
    const length = texts.reduce((sum, text) => sum + text.length, 0);
    let stale = false;
    try {
      return await withRetries(
        async () => {
          try {
            const timeoutMs = Math.min(MAX_TIMEOUT_MS, loadedTimeoutMs() + length * MS_PER_CHARACTER);
            if (!withCanary) return await sendCounted(texts, timeoutMs, within);
            const embeddings = await sendCounted([CANARY, ...texts], timeoutMs, within);
            return embeddings.slice(1);
          } catch (error) {
            const first = error instanceof OllamaError && error.retry === "now" && !stale;
            if (first) stale = true;
            else count(error);
            throw error;
          }
        },
        { ...options, clock, mayRetry: () => phase.kind === "ready", signal: lifetime.signal },
      );
    } catch (error) {
      if (!(error instanceof OllamaError)) throw error;
      const unclear = error.suspect || (error.kind === "rejected" && texts.length === 1);
      if (!unclear) throw error;
      // Is it the text or the model? A harmless text tells.
      try {
        await sendCounted(PROBE_TEXTS, loadedTimeoutMs(), within);
      } catch (second) {
        if (!(second instanceof OllamaError)) throw second;
        lastFailure = sentenceFrom(second);
        breaker.failed({ trip: true });
        throw new EmbedError("unavailable", second.message, { cause: error });
      }
      throw new EmbedError("rejected", error.message, { cause: error });
    }
  }

  function loadedTimeoutMs(): number {
    const idleMs = clock.now() - answeredAt;
    const loaded = keepAliveSeconds < 0 || idleMs < keepAliveSeconds * 1_000;
    return loaded ? warmTimeoutMs : coldTimeoutMs;
  }

  async function sendCounted(
    texts: readonly string[],
    timeoutMs: number,
    { dimensions, probe }: EmbeddingSpace,
  ): Promise<Float32Array[]> {
    const first = texts[0] === CANARY ? probe : undefined;
    const embeddings = await client.embed(texts, { timeoutMs, dimensions, first, signal: lifetime.signal });
    answeredAt = clock.now();
    breaker.succeeded();
    return embeddings;
  }

  /** Draws the consequences of a failure for later calls. */
  function count(error: unknown) {
    if (!(error instanceof OllamaError) || error.suspect) return;
    if (error.kind === "unavailable") {
      lastFailure = sentenceFrom(error);
      breaker.failed({ trip: error.timedOut || error.refused });
      return;
    }
    breaker.succeeded();
    if (error.kind !== "model-missing") return;
    missing(`cannot be used: ${error.message}`);
    check();
  }

  async function embed(
    texts: readonly string[],
    role: EmbeddingRole,
    signal?: AbortSignal,
  ): Promise<Float32Array[]> {
    signal?.throwIfAborted();
    if (lifetime.signal.aborted) throw closedError();
    const prepared = texts.map((text) => {
      if (profile.clean(text).trim() === "") throw new EmbedError("rejected", "there is no text to embed");
      return prepareText(profile, text, role);
    });
    const before = space;
    const results = prepared.map((text) =>
      before !== undefined && role === "query" ? cache.get(before, text) : undefined,
    );
    const uncached = prepared.filter((_, i) => results[i] === undefined);
    if (uncached.length > 0) {
      while (phase.kind === "checking") await waitUnlessAborted(firstLook.promise, signal);
      if (lifetime.signal.aborted) throw closedError();
      if (phase.kind !== "ready") throw failureNow();
      const fresh = await scheduler.submit(uncached, role, signal);
      // Cached and fresh ones would be of different spaces.
      if (uncached.length < texts.length && space !== before) return embed(texts, role, signal);
      let next = 0;
      for (const i of results.keys()) results[i] ??= fresh[next++];
    }
    return results.filter((embedding) => embedding !== undefined);
  }

  // What the profile says of the model will not change by looking at Ollama.
  const refusal = refusedDimensions(own.shortenTo === undefined ? own.dimensions : undefined);
  if (refusal === undefined) check();
  else missing(refusal);

  return {
    profile,
    maxChunkLength: profile.maxChunkLength,
    embed,
    space: () => space,
    status() {
      if (lifetime.signal.aborted) return { available: false, reason: "the embedder is closed" };
      if (phase.kind === "checking") return { available: false, reason: `${named} is being looked at` };
      if (phase.kind !== "ready") return { available: false, reason: phase.reason };
      return { available: true, reason: `${named} is ready, with ${space?.dimensions} dimensions` };
    },
    stats: () => ({ circuit: breaker.state, waitingTexts: scheduler.waiting, cachedQueries: cache.size }),
    onAvailable(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      if (!lifetime.signal.aborted) lifetime.abort(closedError());
      cancelNextCheck();
      listeners.clear();
      scheduler.close(closedError());
      phase = { kind: "away", reason: "the embedder is closed" };
      firstLook.resolve();
      await checking;
    },
  };
}

/** The space without its probe. */
function loggable(space: EmbeddingSpace | undefined) {
  const { probe: _, ...rest } = space ?? {};
  return rest;
}
