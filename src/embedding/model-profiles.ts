import type { EmbeddingRole } from "./embedder.ts";

/** How to speak to one embedding model. Ollama adds no prefix and cleans nothing by itself. */
export interface ModelProfile {
  /** Name and revision, as `nomic/1`. Raise the revision with any change that alters embeddings. */
  readonly name: string;
  readonly queryPrefix: string;
  readonly documentPrefix: string;
  /** Length of an embedding, or undefined where only the server knows. */
  readonly dimensions: number | undefined;
  /** Asks the server for embeddings shortened to `dimensions`: only for models trained for it (Matryoshka). */
  readonly shortenTo?: number;
  /** Tokens the model takes as served by Ollama, which may be less than its authors' number. */
  readonly contextTokens: number;
  /** Longest text without prefix, in UTF-16 code units, that fits the context. See `CHARACTERS_PER_TOKEN`. */
  readonly maxChunkLength: number;
  /** Brings a text into the form that the model's vocabulary knows. Applied before the prefix. */
  readonly clean: (text: string) => string;
  /** Runner options of each request. Constant, because Ollama reloads the model whenever they change. */
  readonly options: Readonly<Record<string, number>>;
}

/**
 * English has 4 to 4.5 characters a token, German about 3, source code 2.5 to 3. Two leave room for all of
 * them. What is denser (hex, Chinese: about one) may still be refused as too long, and has to be split
 * further; counting one everywhere would double the chunks of everybody's prose to save those a round trip.
 */
const CHARACTERS_PER_TOKEN = 2;

/** Special tokens and the longest prefix. */
const RESERVED_TOKENS = 32;

/** More would fit models of 8,192 tokens, but one embedding for that much text finds nothing in particular. */
const MAX_CHUNK_LENGTH = 8_000;

/**
 * For models whose vocabulary has no capitals and no accents: what their own tokenizer does first. Some Ollama
 * versions forgot it, so that every capitalised (#13942, 0.13.1 to 0.24) or accented (#15609) word became the
 * same unknown token. Doing it twice changes nothing.
 */
function foldForUncased(text: string): string {
  return text
    .normalize("NFD")
    .replace(/\p{Mn}/gu, "")
    .toLowerCase();
}

const asIs = (text: string): string => text;

interface ProfileParts {
  readonly name: string;
  readonly contextTokens: number;
  readonly dimensions?: number;
  readonly shortenTo?: number;
  readonly query?: string;
  readonly document?: string;
  readonly uncased?: boolean;
}

function profileFrom(parts: ProfileParts): ModelProfile {
  const { contextTokens } = parts;
  return {
    name: parts.name,
    queryPrefix: parts.query ?? "",
    documentPrefix: parts.document ?? "",
    dimensions: parts.dimensions,
    ...(parts.shortenTo === undefined ? {} : { shortenTo: parts.shortenTo }),
    contextTokens,
    maxChunkLength: Math.min(MAX_CHUNK_LENGTH, (contextTokens - RESERVED_TOKENS) * CHARACTERS_PER_TOKEN),
    clean: parts.uncased ? foldForUncased : asIs,
    // Since 0.30 Ollama cuts at num_batch, 2,048 by default, whatever num_ctx says (#14259).
    options: { num_ctx: contextTokens, num_batch: contextTokens },
  };
}

const SEARCH_SENTENCE = "Represent this sentence for searching relevant passages: ";
const NOMIC_PREFIXES = { query: "search_query: ", document: "search_document: " };
const QWEN3_QUERY =
  "Instruct: Given a question or a topic, retrieve the notes that answer it or are about it\nQuery:";

/** The first row whose pattern matches the base name and, where given, whose tag matches, wins. */
const PROFILES: readonly { readonly base: RegExp; readonly tag?: RegExp; readonly parts: ProfileParts }[] = [
  {
    // Trained for 8,192 tokens, but Ollama does not set the RoPE scaling that needs: 2,048 (#7741).
    base: /^nomic-embed-text(-v1|-v1\.5)?$/,
    parts: { name: "nomic/1", contextTokens: 2048, dimensions: 768, uncased: true, ...NOMIC_PREFIXES },
  },
  {
    base: /^nomic-embed-text-v2-moe$/,
    parts: { name: "nomic-v2/1", contextTokens: 512, dimensions: 768, ...NOMIC_PREFIXES },
  },
  {
    base: /^mxbai-embed-large(-v1)?$/,
    parts: { name: "mxbai/1", contextTokens: 512, dimensions: 1024, uncased: true, query: SEARCH_SENTENCE },
  },
  {
    base: /^bge-large$/,
    parts: {
      name: "bge-large/1",
      contextTokens: 512,
      dimensions: 1024,
      uncased: true,
      query: SEARCH_SENTENCE,
    },
  },
  {
    base: /^all-minilm$/,
    tag: /^(l12|33m)/,
    parts: { name: "minilm-l12/1", contextTokens: 128, dimensions: 384, uncased: true },
  },
  { base: /^all-minilm$/, parts: { name: "minilm/1", contextTokens: 256, dimensions: 384, uncased: true } },
  { base: /^bge-m3$/, parts: { name: "bge-m3/1", contextTokens: 8192, dimensions: 1024 } },
  {
    base: /^embeddinggemma$/,
    parts: {
      name: "embeddinggemma/1",
      contextTokens: 2048,
      dimensions: 768,
      query: "task: search result | query: ",
      document: "title: none | text: ",
    },
  },
  {
    base: /^qwen3-embedding$/,
    tag: /^0\.6b/,
    parts: { name: "qwen3-0.6b/1", contextTokens: 8192, dimensions: 1024, query: QWEN3_QUERY },
  },
  {
    // 2,560 and 4,096 dimensions by nature, more than the 2,000 that pgvector can index: shortened.
    base: /^qwen3-embedding$/,
    tag: /^4b/,
    parts: { name: "qwen3-4b/1", contextTokens: 8192, dimensions: 1024, shortenTo: 1024, query: QWEN3_QUERY },
  },
  {
    base: /^qwen3-embedding$/,
    parts: { name: "qwen3-8b/1", contextTokens: 8192, dimensions: 1024, shortenTo: 1024, query: QWEN3_QUERY },
  },
  {
    base: /^snowflake-arctic-embed2$/,
    parts: { name: "arctic2/1", contextTokens: 8192, dimensions: 1024, query: "query: " },
  },
  {
    // Sizes from 384 to 1,024 dimensions: the server tells.
    base: /^snowflake-arctic-embed$/,
    parts: { name: "arctic/1", contextTokens: 512, uncased: true, query: SEARCH_SENTENCE },
  },
  { base: /^granite-embedding$/, parts: { name: "granite/1", contextTokens: 512 } },
];

/** For models that nobody described: no prefix, the smallest usual context, no options, dimensions as they come. */
const GENERIC: ModelProfile = {
  ...profileFrom({ name: "generic/1", contextTokens: 512 }),
  options: {},
};

/**
 * The profile of a model by its Ollama name. Registry, namespace and letter case do not matter, and the tag only
 * where sizes differ: `nomic-embed-text:v1.5`, `library/nomic-embed-text` and `nomic-embed-text` are the same.
 */
export function profileForModel(model: string): ModelProfile {
  const last = model.toLowerCase().split("/").at(-1) ?? "";
  const [name = "", tag = "latest"] = last.split(":");
  const base = name.replace(/-gguf$/, "");
  const row = PROFILES.find((candidate) => candidate.base.test(base) && (candidate.tag?.test(tag) ?? true));
  return row === undefined ? GENERIC : profileFrom(row.parts);
}

/** The text as the model should see it. Unpaired surrogates, which JSON cannot carry, become U+FFFD. */
export function prepareText(profile: ModelProfile, text: string, role: EmbeddingRole): string {
  const prefix = role === "query" ? profile.queryPrefix : profile.documentPrefix;
  return prefix + profile.clean(text.toWellFormed());
}
