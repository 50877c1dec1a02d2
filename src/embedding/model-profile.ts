import type { EmbeddingRole } from "./embedder.ts";

/** Lengths to which a model's embeddings may be cut: these, or all in a range. */
export type ShorterDimensions = readonly number[] | { readonly min: number; readonly max: number };

/** What is done to texts before the prefix: nothing, or what a model without capitals and accents needs. */
export type CleanUp = "none" | "uncased";

/** How to speak to one embedding model. Ollama adds no prefix and cleans nothing by itself. */
export interface ModelProfile {
  /** Name and revision, as `nomic/1`. Raise the revision with any change that alters embeddings. */
  readonly name: string;
  readonly queryPrefix: string;
  readonly documentPrefix: string;
  /** Length of an embedding, or undefined where only the server knows. */
  readonly dimensions: number | undefined;
  /** Asks the server for embeddings shortened to so many dimensions: only for models trained for it (Matryoshka). */
  readonly shortenTo?: number;
  /** The lengths that the model is trained for beside its own. Ollama cuts those of any model, without an error. */
  readonly shorterDimensions: ShorterDimensions;
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

/** Special tokens and the prefix; more for a longer prefix. */
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

/** What a profile is made from; all but the name and the context have a default. */
export interface ProfileParts {
  readonly name: string;
  readonly contextTokens: number;
  readonly dimensions?: number;
  readonly shortenTo?: number;
  readonly shorter?: ShorterDimensions;
  readonly query?: string;
  readonly document?: string;
  readonly cleanUp?: CleanUp;
  /** False for a model of which too little is known to send options of its runner. Default true. */
  readonly sendOptions?: boolean;
}

/** A profile, with what follows from its parts. */
export function profileFrom(parts: ProfileParts): ModelProfile {
  const { contextTokens, query = "", document = "", sendOptions = true } = parts;
  const longest = Math.max(query.length, document.length);
  const reserved = Math.max(RESERVED_TOKENS, Math.ceil(longest / CHARACTERS_PER_TOKEN));
  return {
    name: parts.name,
    queryPrefix: query,
    documentPrefix: document,
    dimensions: parts.dimensions,
    ...(parts.shortenTo === undefined ? {} : { shortenTo: parts.shortenTo }),
    shorterDimensions: parts.shorter ?? [],
    contextTokens,
    maxChunkLength: Math.min(MAX_CHUNK_LENGTH, (contextTokens - reserved) * CHARACTERS_PER_TOKEN),
    clean: parts.cleanUp === "uncased" ? foldForUncased : asIs,
    // Since 0.30 Ollama cuts at num_batch, 2,048 by default, whatever num_ctx says (#14259).
    options: sendOptions ? { num_ctx: contextTokens, num_batch: contextTokens } : {},
  };
}

/** Whether the model is trained for embeddings cut to so many dimensions. */
export function canShortenTo(
  { shorterDimensions }: Pick<ModelProfile, "shorterDimensions">,
  length: number,
): boolean {
  return "min" in shorterDimensions
    ? length >= shorterDimensions.min && length <= shorterDimensions.max
    : shorterDimensions.includes(length);
}

/** As in "768, 512, 256", for errors. `own`: what the model makes by itself, if that is known. */
export function describeDimensions(
  { shorterDimensions: shorter }: Pick<ModelProfile, "shorterDimensions">,
  own: number | undefined,
): string {
  if ("min" in shorter) return `${shorter.min} to ${shorter.max}`;
  const all = [...(own === undefined ? ["its own"] : [own]), ...shorter.filter((length) => length !== own)];
  return all.join(", ");
}

/** The profile for embeddings of this length, which `canShortenTo` allows or which is the model's own. */
export function shortenedTo(profile: ModelProfile, length: number): ModelProfile {
  return { ...profile, dimensions: length, shortenTo: length };
}

/** The text as the model should see it. Unpaired surrogates, which JSON cannot carry, become U+FFFD. */
export function prepareText(profile: ModelProfile, text: string, role: EmbeddingRole): string {
  const prefix = role === "query" ? profile.queryPrefix : profile.documentPrefix;
  return prefix + profile.clean(text.toWellFormed());
}
