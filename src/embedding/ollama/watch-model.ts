import type { EmbeddingSpace, EmbedError } from "../../memory/model/embedder.ts";
import { type CircuitState, createCircuitBreaker } from "../circuit-breaker.ts";
import { checkModel, type ModelCheckOptions } from "./check-model.ts";
import { logTransition } from "./log-transition.ts";
import {
  describeState,
  failureOf,
  INITIAL_STATE,
  type ModelEvent,
  nextCheckDelayMs,
  type Phase,
  reduceModelState,
  spaceChange,
} from "./model-state.ts";
import { type OllamaError, sentenceFrom } from "./ollama-errors.ts";
import { refusedDimensions } from "./refused-dimensions.ts";

/** The signal ends the watch. */
export interface ModelWatchOptions extends ModelCheckOptions {
  /** The model's own dimensions, where they are known before Ollama reports them. */
  readonly nativeDimensions: number | undefined;
  /** Runs when the space changes, before any caller can ask for embeddings of the new one. */
  readonly onSpace: () => void;
}

/** Whether a model can be used, and the space of its embeddings, as far as checks and calls have shown. */
export interface ModelWatch {
  readonly phase: Phase["kind"];
  /** The space of the embeddings, once the model has been ready. */
  readonly space: EmbeddingSpace | undefined;
  readonly circuit: CircuitState;
  /** Resolves when the first check has ended, whatever its result. */
  readonly firstCheck: Promise<void>;
  /** When Ollama last answered a call, on the watch's clock. */
  readonly answeredAt: number;
  /** The present state, in one sentence for an operator. */
  readonly reason: string;
  /** Returns the error of a call while the model is not ready. */
  failure(): EmbedError;
  /** Records that Ollama answered a call. */
  recordAnswer(): void;
  /** Records that a call failed, which may affect later calls. */
  recordFailure(error: OllamaError): void;
  /** Records that a harmless text failed too: the model is broken, whatever the caller's text was. */
  recordBroken(error: OllamaError): void;
  /** Calls `listener` whenever the model becomes ready or its space changes. Returns a function that unsubscribes. */
  onAvailable(listener: () => void): () => void;
  /** Stops checking. Resolves when the running check has ended; abort the signal first. */
  close(): Promise<void>;
}

/**
 * Checks a model of Ollama in the background at intervals, so that it becomes usable without a restart whenever Ollama and
 * the model do. Downloads the model if it is missing. `model-state.ts` holds the rules; this function runs the effects.
 */
export function watchModel(options: ModelWatchOptions): ModelWatch {
  const { client, profile, logger, clock, signal } = options;
  const subject = `model "${client.model}" of Ollama at ${client.address}`;
  const breaker = createCircuitBreaker({
    clock,
    onChange: (circuit) => {
      if (circuit !== "open") return;
      dispatch({ type: "circuit-opened" });
      if (checking === undefined) scheduleCheck();
    },
  });
  const listeners = new Set<() => void>();
  const firstCheck = Promise.withResolvers<void>();
  let state = INITIAL_STATE;
  let answeredAt = Number.NEGATIVE_INFINITY;
  let checking: Promise<void> | undefined;
  let cancelNextCheck = () => {};

  function dispatch(event: ModelEvent): void {
    if (signal.aborted && event.type !== "closed") return;
    const before = state;
    state = reduceModelState(before, event);
    const { phase, space } = state;
    if (phase.kind !== "checking") firstCheck.resolve();
    if (event.type === "closed") return;
    const change = space === undefined || space === before.space ? "none" : spaceChange(before.space, space);
    if (change !== "none") options.onSpace();
    logTransition(logger, subject, event, before, state);
    const becameReady = phase.kind === "ready" && before.phase.kind !== "ready";
    if (becameReady || change !== "none") for (const listener of [...listeners]) notify(listener);
  }

  function notify(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      logger.error({ err: error }, "a listener of the embedder failed");
    }
  }

  function scheduleCheck(): void {
    cancelNextCheck();
    if (signal.aborted) return;
    cancelNextCheck = clock.schedule(nextCheckDelayMs(state, breaker.retryInMs), check, true);
  }

  /** Runs one check at a time, so that there is never more than one probe either. */
  function check(): void {
    if (checking !== undefined || signal.aborted) return;
    cancelNextCheck();
    checking = checkModel({
      ...options,
      subject,
      breaker,
      state: () => state,
      dispatch,
      onAnswer: () => {
        answeredAt = clock.now();
      },
    })
      .catch((error: unknown) => {
        if (signal.aborted) return;
        logger.error({ err: error }, "a check of Ollama failed unexpectedly");
        dispatch({ type: "probe-failed", failure: sentenceFrom(error) });
      })
      .finally(() => {
        checking = undefined;
        scheduleCheck();
      });
  }

  // The profile alone may rule the model out. Asking Ollama would not change that.
  const problem = refusedDimensions(profile, options.nativeDimensions);
  if (problem === undefined) check();
  else dispatch({ type: "found-unusable", problem });

  return {
    get phase() {
      return state.phase.kind;
    },
    get space() {
      return state.space;
    },
    get circuit() {
      return breaker.state;
    },
    get answeredAt() {
      return answeredAt;
    },
    get reason() {
      return describeState(state, subject);
    },
    firstCheck: firstCheck.promise,
    failure: () => failureOf(state, subject, client.model),
    recordAnswer() {
      answeredAt = clock.now();
      breaker.succeeded();
    },
    recordFailure(error) {
      if (error.suspect) return;
      if (error.kind === "unavailable") {
        dispatch({ type: "call-failed", failure: sentenceFrom(error) });
        breaker.failed({ trip: error.timedOut || error.refused });
        return;
      }
      breaker.succeeded();
      if (error.kind !== "model-missing") return;
      dispatch({ type: "found-unusable", problem: `cannot be used: ${error.message}` });
      check();
    },
    recordBroken(error) {
      dispatch({ type: "call-failed", failure: sentenceFrom(error) });
      breaker.failed({ trip: true });
    },
    onAvailable(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      cancelNextCheck();
      listeners.clear();
      dispatch({ type: "closed" });
      await checking;
    },
  };
}
