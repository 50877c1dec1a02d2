import type { Logger } from "../../util/logger.ts";
import type { CircuitBreaker } from "../circuit-breaker.ts";
import type { Clock } from "../clock.ts";
import type { ModelProfile } from "../model-profile.ts";
import type { ModelEvent, ModelState } from "./model-state.ts";
import type { OllamaClient } from "./ollama-client.ts";
import { OllamaError, sentenceFrom } from "./ollama-errors.ts";
import { CANARY, PROBE_TEXTS } from "./probe-texts.ts";
import { createPullProgressLog } from "./pull-progress.ts";
import { refusedDimensions } from "./refused-dimensions.ts";

/** The model to check, and how. */
export interface ModelCheckOptions {
  readonly client: OllamaClient;
  /** Name of the model for a download. */
  readonly model: string;
  readonly profile: ModelProfile;
  /** Whether to download the model if Ollama does not have it. */
  readonly pull: boolean;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Time-out for a call that may have to load the model, in milliseconds. */
  readonly coldTimeoutMs: number;
  readonly signal: AbortSignal;
}

export interface ModelCheck extends ModelCheckOptions {
  /** Names the model and where it runs. */
  readonly subject: string;
  readonly breaker: CircuitBreaker;
  readonly state: () => ModelState;
  readonly dispatch: (event: ModelEvent) => void;
  /** Runs when Ollama has embedded the probe texts. */
  readonly onAnswer: () => void;
}

/**
 * Checks once whether Ollama runs and has the model; downloads a missing model, and probes one that is new or was not ready.
 * Reports everything it finds through `dispatch`.
 */
export async function checkModel(check: ModelCheck): Promise<void> {
  const { client, breaker, signal, dispatch } = check;
  let digest: string | undefined;
  let ollamaVersion: string;
  try {
    ollamaVersion = await client.version(signal);
    digest = await client.digest(signal);
  } catch (error) {
    if (!(error instanceof OllamaError)) throw error;
    const wasReady = check.state().phase.kind === "ready";
    dispatch({ type: "metadata-failed", failure: sentenceFrom(error) });
    if (wasReady) breaker.failed();
    return;
  }
  const wasReachable = check.state().reachable;
  dispatch({ type: "metadata-read" });
  if (!wasReachable) breaker.hurry();
  if (digest === undefined) {
    if (await pullModel(check)) await checkModel(check);
    return;
  }
  const { phase, space, ollamaVersion: versionBefore } = check.state();
  if (phase.kind === "ready" && space?.digest === digest && versionBefore === ollamaVersion) return;
  await probeModel(check, digest, ollamaVersion);
}

/** Loads the model and measures its embeddings, if the circuit breaker allows it. */
async function probeModel(check: ModelCheck, digest: string, ollamaVersion: string): Promise<void> {
  const { client, profile, breaker, signal, dispatch } = check;
  if (breaker.state !== "closed" && !breaker.tryProbe()) return;
  const foundUnusable = (problem: string) => {
    breaker.succeeded();
    dispatch({ type: "found-unusable", problem });
  };
  try {
    const facts = await client.facts(signal);
    if (facts.embeds === false) {
      return foundUnusable(
        "does not produce embeddings: set OLLAMA_EMBEDDING_MODEL to an embedding model, such as nomic-embed-text",
      );
    }
    const problem = refusedDimensions(profile, facts.dimensions);
    if (problem !== undefined) return foundUnusable(problem);
    const dimensions = profile.shortenTo ?? facts.dimensions ?? profile.dimensions;
    if (dimensions !== profile.dimensions && profile.dimensions !== undefined) {
      check.logger.warn(
        { dimensions, expected: profile.dimensions },
        `${check.subject} has unexpected dimensions`,
      );
    }
    const call = { timeoutMs: check.coldTimeoutMs, dimensions, signal };
    const [probe] = await client.embed([CANARY], call);
    if (probe === undefined) return;
    await client.embed(PROBE_TEXTS, { ...call, first: probe });
    check.onAnswer();
    breaker.succeeded();
    const space = { model: client.model, digest, dimensions: probe.length, profile: profile.name, probe };
    dispatch({ type: "probe-succeeded", space, ollamaVersion });
  } catch (error) {
    if (!(error instanceof OllamaError)) {
      breaker.abandoned();
      throw error;
    }
    if (error.kind === "model-missing") return foundUnusable(`cannot be used: ${error.message}`);
    dispatch({ type: "call-failed", failure: sentenceFrom(error) });
    breaker.failed({ trip: true });
    dispatch({ type: "probe-failed", failure: sentenceFrom(error) });
  }
}

/** Downloads the model if that is allowed and due. Returns whether Ollama has it now. */
async function pullModel(check: ModelCheck): Promise<boolean> {
  const { clock, dispatch } = check;
  const remedy = `run "ollama pull ${check.model}"`;
  if (!check.pull) {
    dispatch({ type: "found-unusable", problem: `is not available: ${remedy}` });
    return false;
  }
  if (clock.now() < check.state().pull.allowedAt) {
    dispatch({ type: "pull-postponed" });
    return false;
  }
  dispatch({ type: "pull-started" });
  try {
    await check.client.pull(
      createPullProgressLog((percent) => dispatch({ type: "pull-progressed", percent })),
      check.signal,
    );
    dispatch({ type: "pull-succeeded" });
    return true;
  } catch (error) {
    if (!(error instanceof OllamaError)) throw error;
    const problem = `is not available, and its download failed (${error.message}): ${remedy}`;
    dispatch({ type: "pull-failed", problem, now: clock.now() });
    return false;
  }
}
