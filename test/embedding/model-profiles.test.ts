import { describe, expect, it } from "vitest";
import { prepareText } from "../../src/embedding/model-profile.ts";
import { profileForModel } from "../../src/embedding/model-profiles.ts";

const SENTENCE = "Represent this sentence for searching relevant passages: ";

describe("profileForModel", () => {
  it.each([
    ["nomic-embed-text", "nomic/1", 768, 2048],
    ["nomic-embed-text:v1.5", "nomic/1", 768, 2048],
    ["library/nomic-embed-text:latest", "nomic/1", 768, 2048],
    ["registry.ollama.ai/library/Nomic-Embed-Text", "nomic/1", 768, 2048],
    ["hf.co/nomic-ai/nomic-embed-text-v1.5-GGUF:Q8_0", "nomic/1", 768, 2048],
    ["nomic-embed-text-v2-moe", "nomic-v2/1", 768, 512],
    ["mxbai-embed-large", "mxbai/1", 1024, 512],
    ["bge-large", "bge-large/1", 1024, 512],
    ["all-minilm", "minilm/1", 384, 256],
    ["all-minilm:l12", "minilm-l12/1", 384, 128],
    ["bge-m3", "bge-m3/1", 1024, 8192],
    ["embeddinggemma:300m", "embeddinggemma/1", 768, 2048],
    ["qwen3-embedding:0.6b", "qwen3-0.6b/1", 1024, 8192],
    ["qwen3-embedding:4b-q8_0", "qwen3-4b/1", 1024, 8192],
    ["qwen3-embedding", "qwen3-8b/1", 1024, 8192],
    ["snowflake-arctic-embed", "arctic/1", 1024, 512],
    ["snowflake-arctic-embed:335m", "arctic/1", 1024, 512],
    ["snowflake-arctic-embed:xs", "arctic/1", 384, 512],
    ["snowflake-arctic-embed:22m", "arctic/1", 384, 512],
    ["snowflake-arctic-embed:s", "arctic/1", 384, 512],
    ["snowflake-arctic-embed:m", "arctic/1", 768, 512],
    ["snowflake-arctic-embed:110m", "arctic/1", 768, 512],
    ["snowflake-arctic-embed:m-long", "arctic-long/1", 768, 2048],
    ["snowflake-arctic-embed:137m", "arctic-long/1", 768, 2048],
    ["snowflake-arctic-embed2", "arctic2/1", 1024, 8192],
    ["granite-embedding:30m", "granite/1", 384, 512],
    ["granite-embedding:278m", "granite/1", 768, 512],
    ["nomic-embed-text-v9", "generic/1", undefined, 512],
    ["", "generic/1", undefined, 512],
  ])("recognizes %j as %s", (model, name, dimensions, contextTokens) => {
    expect(profileForModel(model)).toMatchObject({ name, dimensions, contextTokens });
  });

  it("sends constant options that raise Ollama's limits to the context, and none for an unknown model", () => {
    expect(profileForModel("bge-m3").options).toEqual({ num_ctx: 8192, num_batch: 8192 });
    expect(profileForModel("mine").options).toEqual({});
  });

  it("shortens embeddings that exceed the index limit, for models trained for it", () => {
    expect(profileForModel("qwen3-embedding:8b").shortenTo).toBe(1024);
    expect(profileForModel("qwen3-embedding:0.6b").shortenTo).toBeUndefined();
  });

  it.each([
    ["nomic-embed-text", 4032],
    ["all-minilm", 448],
    ["bge-m3", 8000],
  ])("reserves two characters for each token of %s", (model, length) => {
    expect(profileForModel(model).maxChunkLength).toBe(length);
  });
});

describe("prepareText", () => {
  it.each([
    ["nomic-embed-text", "query", "Crème BRÛLÉE", "search_query: creme brulee"],
    ["nomic-embed-text", "document", "Crème BRÛLÉE", "search_document: creme brulee"],
    ["mxbai-embed-large", "query", "Ångström", `${SENTENCE}angstrom`],
    ["mxbai-embed-large", "document", "Ångström", "angstrom"],
    ["all-minilm", "query", "A", "a"],
    ["bge-m3", "document", "Ångström", "Ångström"],
    ["embeddinggemma", "query", "Wine", "task: search result | query: Wine"],
    ["embeddinggemma", "document", "Wine", "title: none | text: Wine"],
    ["snowflake-arctic-embed2", "query", "Wine", "query: Wine"],
    ["unknown", "query", "Wine", "Wine"],
  ] as const)("prepares for %s a %s: %j", (model, role, text, expected) => {
    expect(prepareText(profileForModel(model), text, role)).toBe(expected);
  });

  it("adds an instruction to queries for qwen3 but not to its documents", () => {
    const profile = profileForModel("qwen3-embedding");
    expect(prepareText(profile, "Wine", "query")).toMatch(/^Instruct: [^\n]+\nQuery:Wine$/);
    expect(prepareText(profile, "Wine", "document")).toBe("Wine");
  });

  it("replaces unpaired surrogates, which JSON cannot carry", () => {
    expect(prepareText(profileForModel("unknown"), "a\ud800b", "document")).toBe("a\ufffdb");
  });
});
