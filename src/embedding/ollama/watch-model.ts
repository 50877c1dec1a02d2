import type { Logger } from "../../util/logger.ts";
import { type CircuitState, createCircuitBreaker } from "../circuit-breaker.ts";
import type { Clock } from "../clock.ts";
import { type EmbeddingSpace, EmbedError, SAME_ENGINE_SIMILARITY } from "../embedder.ts";
import { canShortenTo, describeDimensions, type ModelProfile } from "../model-profile.ts";
import { spaceKey } from "../query-cache.ts";
import { similarity } from "./embed-answer.ts";
import type { OllamaClient } from "./ollama-client.ts";
import { OllamaError, sentenceFrom } from "./ollama-errors.ts";
import { createPullProgressLog } from "./pull-progress.ts";

export interface ModelWatchOptions {
  readonly client: OllamaClient;
  /** As it is to be pulled. */
  readonly model: string;
  readonly profile: ModelProfile;
  /** Length of the model's own embeddings, where that is known before Ollama tells. */
  readonly nativeDimensions: number | undefined;
  /** Download the model if Ollama lacks it. */
  readonly pull: boolean;
  readonly logger: Logger;
  readonly clock: Clock;
  /** For a call that may have to load the model first. */
  readonly coldTimeoutMs: number;
  /** Ends the watch. */
  readonly signal: AbortSignal;
  /** Told before anybody can ask for embeddings of another space than those so far. */
  readonly onSpace: () => void;
}

/** What the model can do for callers now. */
type Phase =
  /** The first look is not finished: callers wait for it. */
  | { readonly kind: "checking" }
  | { readonly kind: "ready" }
  /** Later looks may change it; callers fail at once. */
  | { readonly kind: "away" | "pulling"; readonly reason: string }
  /** `why` is for callers, who need not know where Ollama is. */
  | { readonly kind: "missing"; readonly reason: string; readonly why: string };

/** Whether a model can be used, and what its embeddings are, as far as looks and calls have shown. */
export interface ModelWatch {
  readonly phase: Phase["kind"];
  /** What embeddings are made of, since the model was ready first. */
  readonly space: EmbeddingSpace | undefined;
  readonly circuit: CircuitState;
  /** Resolves when the first look has ended, whatever it has found. */
  readonly firstLook: Promise<void>;
  /** When a call was last answered, on the watch's clock. */
  readonly answeredAt: number;
  /** One sentence on what is found now. */
  readonly reason: string;
  /** What a call fails with while the model is not ready. */
  failure(): EmbedError;
  /** A call was answered. */
  answered(): void;
  /** A call has failed: draws the consequences for later ones. */
  failed(error: OllamaError): void;
  /** A harmless text has failed, too: whatever was asked, the model is broken. */
  broken(error: OllamaError): void;
  /** Calls `listener` whenever the model has become ready, or another one. Returns the way to stop that. */
  onAvailable(listener: () => void): () => void;
  /** Resolves when the look under way has ended, once the signal is aborted. */
  close(): Promise<void>;
}

/**
 * Two short texts, sent together, that wake the model and show that it works: its dimensions, no zeros, not the
 * same for everything. They also decide whether a text or the model is to blame for a failure.
 */
export const PROBE_TEXTS = ["a canary sings", "interest rates rose again in march"] as const;

/**
 * Goes first in every batch that is stored or has several texts, and has to come back as it was: so a model that was
 * exchanged, an engine that was upgraded (#14449) and answers in the wrong order (#6262) are seen before anything of
 * theirs is believed. Costs one short text for up to 32.
 */
export const [CANARY] = PROBE_TEXTS;

/** Between looks at an Ollama that cannot be used. */
const AWAY_CHECK_MS = 2_000;
/** Between looks at one that can, to notice another model under the same name. */
const READY_CHECK_MS = 30_000;

const MIN_PULL_RETRY_MS = 30_000;
const MAX_PULL_RETRY_MS = 600_000;

/**
 * Looks at a model of Ollama in the background, again and again, so that it becomes usable by itself whenever Ollama and
 * the model do. Pulls it if it is missing.
 */
export function watchModel(options: ModelWatchOptions): ModelWatch {
  const { client, profile, logger, clock, signal } = options;
  const breaker = createCircuitBreaker({ clock, onChange: onCircuitChange });
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
    if (signal.aborted) return;
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
    become({ kind: "missing", reason: `${named} ${why}`, why: `model "${client.model}" ${why}` });
  }

  function onCircuitChange(state: CircuitState) {
    if (state !== "open") return;
    become({ kind: "away", reason: `${named} cannot be used: ${lastFailure}` });
    if (checking === undefined) scheduleCheck();
  }

  function scheduleCheck() {
    cancelNextCheck();
    if (signal.aborted) return;
    const untilProbe = breaker.retryInMs;
    let delay = phase.kind === "ready" && !metadataFailed ? READY_CHECK_MS : AWAY_CHECK_MS;
    if (phase.kind === "away" && untilProbe > 0) delay = Math.min(delay, untilProbe);
    cancelNextCheck = clock.schedule(delay, check, true);
  }

  /** Looks at Ollama; one look at a time, so there is never more than one warm-up either. */
  function check(): void {
    if (checking !== undefined || signal.aborted) return;
    cancelNextCheck();
    checking = look()
      .catch((error: unknown) => {
        if (signal.aborted) return;
        logger.error({ err: error }, "looking at Ollama failed unexpectedly");
        away(error);
      })
      .finally(() => {
        checking = undefined;
        scheduleCheck();
      });
  }

  async function look(): Promise<void> {
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
      const call = { timeoutMs: options.coldTimeoutMs, dimensions, signal };
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
      options.onSpace();
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
        signal,
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

  function failure(): EmbedError {
    switch (phase.kind) {
      case "missing":
        return new EmbedError("model-missing", phase.why);
      case "away":
      case "pulling":
        return new EmbedError("unavailable", phase.reason);
      default:
        return new EmbedError("unavailable", `${named} is not ready`);
    }
  }

  // What the profile says of the model will not change by looking at Ollama.
  const refusal = refusedDimensions(options.nativeDimensions);
  if (refusal === undefined) check();
  else missing(refusal);

  return {
    get phase() {
      return phase.kind;
    },
    get space() {
      return space;
    },
    get circuit() {
      return breaker.state;
    },
    get answeredAt() {
      return answeredAt;
    },
    get reason() {
      if (phase.kind === "checking") return `${named} is being looked at`;
      if (phase.kind === "ready") return `${named} is ready, with ${space?.dimensions} dimensions`;
      return phase.reason;
    },
    firstLook: firstLook.promise,
    failure,
    answered() {
      answeredAt = clock.now();
      breaker.succeeded();
    },
    failed(error) {
      if (error.suspect) return;
      if (error.kind === "unavailable") {
        lastFailure = sentenceFrom(error);
        breaker.failed({ trip: error.timedOut || error.refused });
        return;
      }
      breaker.succeeded();
      if (error.kind !== "model-missing") return;
      missing(`cannot be used: ${error.message}`);
      check();
    },
    broken(error) {
      lastFailure = sentenceFrom(error);
      breaker.failed({ trip: true });
    },
    onAvailable(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      cancelNextCheck();
      listeners.clear();
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
