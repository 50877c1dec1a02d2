import { type EmbeddingSpace, EmbedError, SAME_ENGINE_SIMILARITY } from "../../memory/model/embedder.ts";
import { spaceKey } from "../query-cache.ts";
import { similarity } from "./embed-answer.ts";

/** What the model can do for callers at the moment. */
export type Phase =
  /** The first check has not finished: callers wait for it. */
  | { readonly kind: "checking" }
  | { readonly kind: "ready" }
  /** A later check may change this. Callers fail at once. */
  | { readonly kind: "unavailable"; readonly failure: string }
  | { readonly kind: "pulling"; readonly percent: number | undefined }
  /** Ollama does not have the model, or the model cannot produce the embeddings: an operator has to act. */
  | { readonly kind: "unusable"; readonly problem: string }
  | { readonly kind: "closed" };

/** What checks and calls have shown about one model of Ollama. */
export interface ModelState {
  readonly phase: Phase;
  /** The space of the embeddings, once the model has been ready. */
  readonly space: EmbeddingSpace | undefined;
  /** Version of Ollama when the space was measured. */
  readonly ollamaVersion: string | undefined;
  /** Whether the last check got an answer to its questions about version and digest. */
  readonly metadataAvailable: boolean;
  /** Whether Ollama answered the last check that could tell. */
  readonly reachable: boolean;
  /** The last failure, as one sentence for an operator. */
  readonly lastFailure: string;
  readonly pull: {
    /** Pause after the next failed download, in milliseconds. */
    readonly retryMs: number;
    /** Earliest time of the next download, on the watch's clock. */
    readonly allowedAt: number;
    readonly lastProblem: string;
  };
}

/** Something that a check or a call has found. */
export type ModelEvent =
  /** Ollama reported its version and its models. */
  | { readonly type: "metadata-read" }
  | { readonly type: "metadata-failed"; readonly failure: string }
  /** The probe texts were embedded. */
  | { readonly type: "probe-succeeded"; readonly space: EmbeddingSpace; readonly ollamaVersion: string }
  | { readonly type: "probe-failed"; readonly failure: string }
  | { readonly type: "found-unusable"; readonly problem: string }
  | { readonly type: "pull-started" }
  | { readonly type: "pull-progressed"; readonly percent: number }
  | { readonly type: "pull-succeeded" }
  | { readonly type: "pull-failed"; readonly problem: string; readonly now: number }
  /** The pause after a failed download has not passed. */
  | { readonly type: "pull-postponed" }
  /** A call failed. The circuit breaker decides whether that has consequences. */
  | { readonly type: "call-failed"; readonly failure: string }
  | { readonly type: "circuit-opened" }
  | { readonly type: "closed" };

const MIN_PULL_RETRY_MS = 30_000;
const MAX_PULL_RETRY_MS = 600_000;

/** Pause between checks of an Ollama that cannot be used, in milliseconds. */
const UNAVAILABLE_CHECK_MS = 2_000;
/** Pause between checks of a model that is ready, to notice another model under the same name. */
const READY_CHECK_MS = 30_000;

export const INITIAL_STATE: ModelState = {
  phase: { kind: "checking" },
  space: undefined,
  ollamaVersion: undefined,
  metadataAvailable: true,
  reachable: true,
  lastFailure: "",
  pull: { retryMs: MIN_PULL_RETRY_MS, allowedAt: Number.NEGATIVE_INFINITY, lastProblem: "" },
};

/** Returns the state after an event. The state that comes in does not change; a closed watch stays closed. */
export function reduceModelState(state: ModelState, event: ModelEvent): ModelState {
  if (state.phase.kind === "closed") return state;
  switch (event.type) {
    case "metadata-read":
      return { ...state, metadataAvailable: true, reachable: true };
    case "metadata-failed": {
      const failed = { ...state, metadataAvailable: false, lastFailure: event.failure };
      // A busy Ollama may answer this question late and still embed, so one failure changes nothing.
      return state.phase.kind === "ready" ? failed : { ...unavailable(failed), reachable: false };
    }
    case "probe-succeeded":
      return {
        ...state,
        phase: { kind: "ready" },
        // Callers compare spaces by identity: the same space stays the same object.
        space: spaceChange(state.space, event.space) === "none" ? state.space : event.space,
        ollamaVersion: event.ollamaVersion,
      };
    case "probe-failed":
      return unavailable({ ...state, lastFailure: event.failure });
    case "found-unusable":
      return { ...state, phase: { kind: "unusable", problem: event.problem } };
    case "pull-started":
      return { ...state, phase: { kind: "pulling", percent: undefined } };
    case "pull-progressed":
      return { ...state, phase: { kind: "pulling", percent: event.percent } };
    case "pull-succeeded":
      return { ...state, pull: { ...state.pull, retryMs: MIN_PULL_RETRY_MS } };
    case "pull-failed": {
      const { retryMs } = state.pull;
      return {
        ...state,
        phase: { kind: "unusable", problem: event.problem },
        pull: {
          retryMs: Math.min(retryMs * 2, MAX_PULL_RETRY_MS),
          allowedAt: event.now + retryMs,
          lastProblem: event.problem,
        },
      };
    }
    case "pull-postponed":
      return { ...state, phase: { kind: "unusable", problem: state.pull.lastProblem } };
    case "call-failed":
      return { ...state, lastFailure: event.failure };
    case "circuit-opened":
      return unavailable(state);
    case "closed":
      return { ...state, phase: { kind: "closed" } };
  }
}

function unavailable(state: ModelState): ModelState {
  return { ...state, phase: { kind: "unavailable", failure: state.lastFailure } };
}

/**
 * Returns how two spaces differ: not at all, in what identifies the model, or only in what the engine computes with the same
 * model.
 */
export function spaceChange(
  before: EmbeddingSpace | undefined,
  after: EmbeddingSpace,
): "none" | "first" | "model" | "engine" {
  if (before === undefined) return "first";
  if (spaceKey(before) !== spaceKey(after)) return "model";
  return similarity(before.probe, after.probe) < SAME_ENGINE_SIMILARITY ? "engine" : "none";
}

/** Returns the pause before the next check, in milliseconds. `probeInMs`: until the circuit breaker allows a probe. */
export function nextCheckDelayMs({ phase, metadataAvailable }: ModelState, probeInMs: number): number {
  const delay = phase.kind === "ready" && metadataAvailable ? READY_CHECK_MS : UNAVAILABLE_CHECK_MS;
  return phase.kind === "unavailable" && probeInMs > 0 ? Math.min(delay, probeInMs) : delay;
}

/** Describes the state in one sentence for an operator. `subject` names the model and where it runs. */
export function describeState({ phase, space }: ModelState, subject: string): string {
  switch (phase.kind) {
    case "checking":
      return `${subject} is being checked`;
    case "ready":
      return `${subject} is ready, with ${space?.dimensions} dimensions`;
    case "unavailable":
      return `${subject} cannot be used: ${phase.failure}`;
    case "pulling":
      return `${subject} is being downloaded${phase.percent === undefined ? "" : ` (${phase.percent} %)`}`;
    case "unusable":
      return `${subject} ${phase.problem}`;
    case "closed":
      return "the embedder is closed";
  }
}

/** Returns the error of a call while the model is not ready. `model`: its name alone, since callers need not know the address. */
export function failureOf(state: ModelState, subject: string, model: string): EmbedError {
  const { phase } = state;
  if (phase.kind === "unusable") return new EmbedError("model-missing", `model "${model}" ${phase.problem}`);
  const ready = phase.kind === "checking" || phase.kind === "ready";
  return new EmbedError("unavailable", ready ? `${subject} is not ready` : describeState(state, subject));
}
