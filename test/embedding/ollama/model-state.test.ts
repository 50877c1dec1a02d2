import { describe, expect, it, test } from "vitest";
import {
  describeState,
  failureOf,
  INITIAL_STATE,
  type ModelEvent,
  type ModelState,
  nextCheckDelayMs,
  reduceModelState,
  spaceChange,
} from "../../../src/embedding/ollama/model-state.ts";
import type { EmbeddingSpace } from "../../../src/memory/model/embedder.ts";

const SPACE: EmbeddingSpace = {
  model: "nomic-embed-text:latest",
  digest: "abc",
  dimensions: 3,
  profile: "nomic/1",
  probe: new Float32Array([1, 0, 0]),
};
const SUBJECT = "model M at A";

const READY: ModelEvent = { type: "probe-succeeded", space: SPACE, ollamaVersion: "0.30.0" };
const REFUSED: ModelEvent = { type: "metadata-failed", failure: "Ollama is not listening" };
const PULL_FAILED: ModelEvent = { type: "pull-failed", problem: "is not available", now: 1_000 };

function stateAfter(...events: ModelEvent[]): ModelState {
  return events.reduce(reduceModelState, INITIAL_STATE);
}

test.each<[string, ModelEvent[], Partial<ModelState>]>([
  ["starts with a check", [], { phase: { kind: "checking" }, space: undefined }],
  ["is ready after a probe", [READY], { phase: { kind: "ready" }, space: SPACE, ollamaVersion: "0.30.0" }],
  [
    "is unavailable when Ollama does not answer the first check",
    [REFUSED],
    { phase: { kind: "unavailable", failure: "Ollama is not listening" }, reachable: false },
  ],
  [
    "stays ready when a later check fails once",
    [READY, REFUSED],
    { phase: { kind: "ready" }, reachable: true, metadataAvailable: false },
  ],
  [
    "is unavailable with the last failure once the circuit has opened",
    [READY, { type: "call-failed", failure: "timed out" }, { type: "circuit-opened" }],
    { phase: { kind: "unavailable", failure: "timed out" }, space: SPACE },
  ],
  [
    "is reachable again when Ollama answers",
    [REFUSED, { type: "metadata-read" }],
    { reachable: true, metadataAvailable: true },
  ],
  [
    "is unavailable after a failed probe",
    [READY, { type: "probe-failed", failure: "the engine failed" }],
    { phase: { kind: "unavailable", failure: "the engine failed" } },
  ],
  [
    "reports the progress of a download",
    [{ type: "pull-started" }, { type: "pull-progressed", percent: 40 }],
    { phase: { kind: "pulling", percent: 40 } },
  ],
  [
    "waits half a minute after a failed download",
    [{ type: "pull-started" }, PULL_FAILED],
    {
      phase: { kind: "unusable", problem: "is not available" },
      pull: { retryMs: 60_000, allowedAt: 31_000, lastProblem: "is not available" },
    },
  ],
  [
    "doubles the pause between downloads up to ten minutes",
    Array.from({ length: 9 }, () => PULL_FAILED),
    { pull: { retryMs: 600_000, allowedAt: 601_000, lastProblem: "is not available" } },
  ],
  [
    "keeps the reason while a download is postponed",
    [PULL_FAILED, { type: "metadata-read" }, { type: "pull-postponed" }],
    { phase: { kind: "unusable", problem: "is not available" } },
  ],
  [
    "returns to the short pause after a successful download",
    [PULL_FAILED, PULL_FAILED, { type: "pull-succeeded" }],
    { pull: { retryMs: 30_000, allowedAt: 61_000, lastProblem: "is not available" } },
  ],
  [
    "becomes unusable when the model is removed",
    [READY, { type: "found-unusable", problem: "cannot be used: no such model" }],
    { phase: { kind: "unusable", problem: "cannot be used: no such model" }, space: SPACE },
  ],
  ["stays closed", [READY, { type: "closed" }, READY, REFUSED], { phase: { kind: "closed" } }],
])("%s", (_, events, expected) => {
  expect(stateAfter(...events)).toMatchObject(expected);
});

describe("the space", () => {
  it("remains the same object when a probe shows no change", () => {
    const again = { ...READY, space: { ...SPACE, probe: new Float32Array([1, 0.001, 0]) } };
    expect(stateAfter(READY, again).space).toBe(SPACE);
  });

  it.each<[string, Partial<EmbeddingSpace>, ReturnType<typeof spaceChange>]>([
    ["an equal space", {}, "none"],
    ["another digest", { digest: "def" }, "model"],
    ["other dimensions", { dimensions: 4 }, "model"],
    ["another probe", { probe: new Float32Array([0, 1, 0]) }, "engine"],
  ])("compares %s", (_, change, expected) => {
    const next = { ...SPACE, ...change };
    expect(spaceChange(SPACE, next)).toBe(expected);
    const state = stateAfter(READY, { ...READY, space: next });
    expect(state.space).toBe(expected === "none" ? SPACE : next);
  });

  it("is reported as the first if there was none before", () => {
    expect(spaceChange(undefined, SPACE)).toBe("first");
  });
});

test.each<[string, ModelEvent[], number, number]>([
  ["ready", [READY], 0, 30_000],
  ["ready, but the last check failed", [READY, REFUSED], 0, 2_000],
  ["unavailable", [REFUSED], 0, 2_000],
  ["unavailable, with a probe allowed sooner", [REFUSED], 500, 500],
  ["unavailable, with a probe allowed later", [REFUSED], 9_000, 2_000],
  ["unusable", [PULL_FAILED], 500, 2_000],
])("schedules the next check when %s", (_, events, probeInMs, expected) => {
  expect(nextCheckDelayMs(stateAfter(...events), probeInMs)).toBe(expected);
});

test.each<[string, ModelEvent[], string, string]>([
  ["checking", [], "model M at A is being checked", "model M at A is not ready"],
  ["ready", [READY], "model M at A is ready, with 3 dimensions", "model M at A is not ready"],
  [
    "unavailable",
    [REFUSED],
    "model M at A cannot be used: Ollama is not listening",
    "model M at A cannot be used: Ollama is not listening",
  ],
  [
    "pulling",
    [{ type: "pull-progressed", percent: 40 }],
    "model M at A is being downloaded (40 %)",
    "model M at A is being downloaded (40 %)",
  ],
  ["unusable", [PULL_FAILED], "model M at A is not available", 'model "M" is not available'],
  ["closed", [{ type: "closed" }], "the embedder is closed", "the embedder is closed"],
])("describes a model that is %s to operators and callers", (_, events, reason, failure) => {
  const state = stateAfter(...events);
  expect(describeState(state, SUBJECT)).toBe(reason);
  expect(failureOf(state, SUBJECT, "M").message).toBe(failure);
});
