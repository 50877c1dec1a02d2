import { expect, test } from "vitest";
import { createEmbedders } from "../../src/embedding/embedders.ts";
import type { ModelChoice } from "../../src/memory/model/embedder.ts";
import { createScriptedEmbedder } from "../support/in-process/scripted-embedder.ts";

const usual: ModelChoice = { embeddingModel: undefined, requestedDimensions: undefined };
const small: ModelChoice = { embeddingModel: "all-minilm", requestedDimensions: undefined };
const short: ModelChoice = { embeddingModel: undefined, requestedDimensions: 256 };

function start() {
  const closed: ModelChoice[] = [];
  const embedders = createEmbedders(createScriptedEmbedder(), (choice) => ({
    ...createScriptedEmbedder(),
    close: async () => void closed.push(choice),
  }));
  return { embedders, closed };
}

test("each model choice gets one embedder, and domains without a choice share the default one", () => {
  const { embedders } = start();
  expect(embedders.of(small)).toBe(embedders.of({ ...small }));
  expect(embedders.of(small)).not.toBe(embedders.of(short));
  expect(embedders.of(usual)).toBe(embedders.of({ ...usual }));
});

test("closes the embedder of an unused choice one check later, as a domain may just be being created", () => {
  const { embedders, closed } = start();
  const first = embedders.of(small);
  embedders.of(short);
  embedders.keepOnly([usual, short]);
  expect(closed).toEqual([]);
  embedders.keepOnly([usual, short]);
  expect(closed).toEqual([small]);
  embedders.keepOnly([usual, short]);
  expect(closed).toEqual([small]);
  expect(embedders.of(small)).not.toBe(first);
});

test("keeps the embedder of a choice that a domain uses again by the next check", () => {
  const { embedders, closed } = start();
  const first = embedders.of(small);
  embedders.keepOnly([]);
  embedders.keepOnly([small]);
  embedders.keepOnly([]);
  expect(closed).toEqual([]);
  expect(embedders.of(small)).toBe(first);
});
