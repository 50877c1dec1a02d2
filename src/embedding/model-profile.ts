import type { EmbeddingRole } from "../memory/model/embedder.ts";

/** Dimensions to which a model's embeddings may be shortened: a list, or a range. */
export type ShorterDimensions = readonly number[] | { readonly min: number; readonly max: number };

/** How texts are normalized before the prefix is added: not at all, or for a model without capitals and accents. */
export type CleanUp = "none" | "uncased";

/** How to prepare texts for one embedding model. Ollama adds no prefix and normalizes nothing. */
export interface ModelProfile {
  /** Name and revision, as `nomic/1`. Raise the revision with any change that alters embeddings. */
  readonly name: string;
  readonly queryPrefix: string;
  readonly documentPrefix: string;
  /** Dimensions of an embedding; undefined where only the server knows them. */
  readonly dimensions: number | undefined;
  /** Dimensions to request from the server, for models that are trained for shortened embeddings (Matryoshka). */
  readonly shortenTo?: number;
  /**
   * The dimensions that the model is trained for besides its own. Ollama shortens the embeddings of any model without an
   * error.
   */
  readonly shorterDimensions: ShorterDimensions;
  /** Maximum number of tokens as served by Ollama, which may be lower than the number that the model's authors state. */
  readonly contextTokens: number;
  /** Maximum length of a text without its prefix, in UTF-16 code units, that fits the context. See `CHARACTERS_PER_TOKEN`. */
  readonly maxChunkLength: number;
  /** Converts a text into the form that the model's vocabulary covers. Applied before the prefix is added. */
  readonly clean: (text: string) => string;
  /** Runner options for each request. They are constant, because Ollama reloads the model whenever they change. */
  readonly options: Readonly<Record<string, number>>;
}

/**
 * English has 4 to 4.5 characters per token, German about 3, source code 2.5 to 3. A value of two leaves room for all of
 * them. The model may still reject denser texts (hexadecimal digits or Chinese, with about one) as too long, which are then
 * split further. A value of one would double the chunks of all prose to save these texts a round trip.
 */
const CHARACTERS_PER_TOKEN = 2;

/** Tokens reserved for special tokens and the prefix; a longer prefix reserves more. */
const RESERVED_TOKENS = 32;

/** Longer chunks would fit models of 8,192 tokens, but a single embedding of that much text is too unspecific to search. */
const MAX_CHUNK_LENGTH = 8_000;

/**
 * Removes capitals and accents, as the tokenizer of a model without them does first. Some Ollama versions omit this step, and
 * every word with a capital (ollama/ollama#13942, 0.13.1 to 0.24) or an accent (ollama/ollama#15609) becomes the same unknown
 * token. Applying the step twice changes nothing.
 */
function foldForUncased(text: string): string {
  return text
    .normalize("NFD")
    .replace(/\p{Mn}/gu, "")
    .toLowerCase();
}

const asIs = (text: string): string => text;

/** The parts of a profile. All except the name and the context have a default. */
export interface ProfileParts {
  readonly name: string;
  readonly contextTokens: number;
  readonly dimensions?: number;
  readonly shortenTo?: number;
  readonly shorter?: ShorterDimensions;
  readonly query?: string;
  readonly document?: string;
  readonly cleanUp?: CleanUp;
  /** Whether to send runner options; false for a model that is not known well enough. Defaults to true. */
  readonly sendOptions?: boolean;
}

/** Creates a profile from its parts. */
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
    // Since 0.30 Ollama truncates at num_batch, which defaults to 2,048, regardless of num_ctx (ollama/ollama#14259).
    options: sendOptions ? { num_ctx: contextTokens, num_batch: contextTokens } : {},
  };
}

/** Returns whether the model is trained for embeddings of these dimensions. */
export function canShortenTo(
  { shorterDimensions }: Pick<ModelProfile, "shorterDimensions">,
  length: number,
): boolean {
  return "min" in shorterDimensions
    ? length >= shorterDimensions.min && length <= shorterDimensions.max
    : shorterDimensions.includes(length);
}

/** Lists the possible dimensions for an error, such as "768, 512, 256". `own`: the model's own dimensions, if known. */
export function describeDimensions(
  { shorterDimensions: shorter }: Pick<ModelProfile, "shorterDimensions">,
  own: number | undefined,
): string {
  if ("min" in shorter) return `${shorter.min} to ${shorter.max}`;
  const all = [...(own === undefined ? ["its own"] : [own]), ...shorter.filter((length) => length !== own)];
  return all.join(", ");
}

/** Returns the profile for embeddings of these dimensions, which `canShortenTo` allows or which are the model's own. */
export function shortenedTo(profile: ModelProfile, length: number): ModelProfile {
  return { ...profile, dimensions: length, shortenTo: length };
}

/** Returns the text that the model receives. Unpaired surrogates, which JSON cannot carry, become U+FFFD. */
export function prepareText(profile: ModelProfile, text: string, role: EmbeddingRole): string {
  const prefix = role === "query" ? profile.queryPrefix : profile.documentPrefix;
  return prefix + profile.clean(text.toWellFormed());
}
