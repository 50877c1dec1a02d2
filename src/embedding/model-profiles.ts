import { type ModelProfile, type ProfileParts, profileFrom } from "./model-profile.ts";

const SEARCH_SENTENCE = "Represent this sentence for searching relevant passages: ";
const NOMIC_PREFIXES = { query: "search_query: ", document: "search_document: " };
const QWEN3_QUERY =
  "Instruct: Given a question or a topic, retrieve the notes that answer it or are about it\nQuery:";

const ARCTIC = { name: "arctic/1", contextTokens: 512, cleanUp: "uncased", query: SEARCH_SENTENCE } as const;
const GRANITE = { name: "granite/1", contextTokens: 512 } as const;

/** The first row whose pattern matches the base name and, where given, whose tag matches, wins. */
const PROFILES: readonly { readonly base: RegExp; readonly tag?: RegExp; readonly parts: ProfileParts }[] = [
  {
    // The model is trained for 8,192 tokens, but Ollama does not set the RoPE scaling that this needs (ollama/ollama#7741).
    base: /^nomic-embed-text(-v1|-v1\.5)?$/,
    parts: {
      name: "nomic/1",
      contextTokens: 2048,
      dimensions: 768,
      shorter: [512, 256, 128, 64],
      cleanUp: "uncased",
      ...NOMIC_PREFIXES,
    },
  },
  {
    base: /^nomic-embed-text-v2-moe$/,
    parts: { name: "nomic-v2/1", contextTokens: 512, dimensions: 768, shorter: [256], ...NOMIC_PREFIXES },
  },
  {
    base: /^mxbai-embed-large(-v1)?$/,
    parts: {
      name: "mxbai/1",
      contextTokens: 512,
      dimensions: 1024,
      shorter: [768, 512, 256, 128],
      cleanUp: "uncased",
      query: SEARCH_SENTENCE,
    },
  },
  {
    base: /^bge-large$/,
    parts: {
      name: "bge-large/1",
      contextTokens: 512,
      dimensions: 1024,
      cleanUp: "uncased",
      query: SEARCH_SENTENCE,
    },
  },
  {
    base: /^all-minilm$/,
    tag: /^(l12|33m)/,
    parts: { name: "minilm-l12/1", contextTokens: 128, dimensions: 384, cleanUp: "uncased" },
  },
  {
    base: /^all-minilm$/,
    parts: { name: "minilm/1", contextTokens: 256, dimensions: 384, cleanUp: "uncased" },
  },
  { base: /^bge-m3$/, parts: { name: "bge-m3/1", contextTokens: 8192, dimensions: 1024 } },
  {
    base: /^embeddinggemma$/,
    parts: {
      name: "embeddinggemma/1",
      contextTokens: 2048,
      dimensions: 768,
      shorter: [512, 256, 128],
      query: "task: search result | query: ",
      document: "title: none | text: ",
    },
  },
  {
    base: /^qwen3-embedding$/,
    tag: /^0\.6b/,
    parts: {
      name: "qwen3-0.6b/1",
      contextTokens: 8192,
      dimensions: 1024,
      shorter: { min: 32, max: 1024 },
      query: QWEN3_QUERY,
    },
  },
  {
    // These models have 2,560 and 4,096 dimensions, more than the 2,000 that pgvector can index, so they are shortened.
    base: /^qwen3-embedding$/,
    tag: /^4b/,
    parts: {
      name: "qwen3-4b/1",
      contextTokens: 8192,
      dimensions: 1024,
      shortenTo: 1024,
      shorter: { min: 32, max: 2560 },
      query: QWEN3_QUERY,
    },
  },
  {
    base: /^qwen3-embedding$/,
    parts: {
      name: "qwen3-8b/1",
      contextTokens: 8192,
      dimensions: 1024,
      shortenTo: 1024,
      shorter: { min: 32, max: 4096 },
      query: QWEN3_QUERY,
    },
  },
  {
    base: /^snowflake-arctic-embed2$/,
    parts: { name: "arctic2/1", contextTokens: 8192, dimensions: 1024, shorter: [256], query: "query: " },
  },
  {
    base: /^snowflake-arctic-embed$/,
    tag: /^(m-long|137m)/,
    parts: { ...ARCTIC, name: "arctic-long/1", contextTokens: 2048, dimensions: 768 },
  },
  { base: /^snowflake-arctic-embed$/, tag: /^(xs|s$|s-|22m|33m)/, parts: { ...ARCTIC, dimensions: 384 } },
  { base: /^snowflake-arctic-embed$/, tag: /^(m|110m)/, parts: { ...ARCTIC, dimensions: 768 } },
  { base: /^snowflake-arctic-embed$/, parts: { ...ARCTIC, dimensions: 1024 } },
  { base: /^granite-embedding$/, tag: /^278m/, parts: { ...GRANITE, dimensions: 768 } },
  { base: /^granite-embedding$/, parts: { ...GRANITE, dimensions: 384 } },
];

/** For models without a profile of their own: no prefix, the smallest common context, no options, any dimensions. */
const GENERIC: ProfileParts = { name: "generic/1", contextTokens: 512, sendOptions: false };

const ALL: readonly ProfileParts[] = [...PROFILES.map(({ parts }) => parts), GENERIC];

function shortProfileName({ name }: ProfileParts): string {
  return name.slice(0, name.lastIndexOf("/"));
}

/** Returns a model's name without the parts that do not identify it: registry, namespace, letter case and file format. */
export function shortModelName(model: string): { readonly base: string; readonly tag: string | undefined } {
  const last = model.toLowerCase().split("/").at(-1) ?? "";
  const [name = "", tag] = last.split(":");
  return { base: name.replace(/-gguf$/, ""), tag };
}

/** Returns the parts of a model's profile; for an unknown model, parts that fit most models. */
export function partsForModel(model: string): ProfileParts {
  const { base, tag = "latest" } = shortModelName(model);
  const row = PROFILES.find((candidate) => candidate.base.test(base) && (candidate.tag?.test(tag) ?? true));
  return row?.parts ?? GENERIC;
}

/**
 * Returns the parts of the profile of this name; undefined if there is none. Omits the dimensions where models of different
 * dimensions share the profile.
 */
export function partsOfProfile(name: string): ProfileParts | undefined {
  const [first, ...others] = ALL.filter((parts) => shortProfileName(parts) === name);
  if (first === undefined || others.every(({ dimensions }) => dimensions === first.dimensions)) return first;
  const { dimensions: _, ...rest } = first;
  return rest;
}

/** Lists the names of all profiles, without revisions. */
export function profileNames(): string[] {
  return [...new Set(ALL.map(shortProfileName))];
}

/**
 * Returns the profile of a model by its Ollama name. Registry, namespace and letter case do not matter, and the tag matters
 * only where sizes differ: `nomic-embed-text:v1.5`, `library/nomic-embed-text` and `nomic-embed-text` are the same.
 */
export function profileForModel(model: string): ModelProfile {
  return profileFrom(partsForModel(model));
}
