import type { EmbeddingSpace } from "../../memory/model/embedder.ts";
import type { Logger } from "../../util/logger.ts";
import { describeState, type ModelEvent, type ModelState, spaceChange } from "./model-state.ts";

/** Logs what an event changed, if it matters to an operator. `subject` names the model and where it runs. */
export function logTransition(
  logger: Logger,
  subject: string,
  event: ModelEvent,
  before: ModelState,
  after: ModelState,
): void {
  const { phase, space } = after;
  if (space !== undefined && space !== before.space) {
    const change = spaceChange(before.space, space);
    if (change === "engine") {
      logger.warn({}, `${subject} returns other embeddings with the same digest; was Ollama upgraded?`);
    } else if (change === "model") {
      logger.warn({ before: loggable(before.space), now: loggable(space) }, `${subject} has changed`);
    }
  }
  if (event.type === "pull-progressed") {
    logger.info({ percent: event.percent }, `downloading ${subject}`);
  } else if (phase.kind === "ready") {
    if (before.phase.kind !== "ready") logger.info(loggable(space), `${subject} is ready`);
  } else if (phase !== before.phase) {
    const reason = describeState(after, subject);
    if (reason !== describeState(before, subject)) logger.warn({ state: phase.kind }, reason);
  }
}

/** Returns the space without its probe. */
function loggable(space: EmbeddingSpace | undefined) {
  const { probe: _, ...rest } = space ?? {};
  return rest;
}
