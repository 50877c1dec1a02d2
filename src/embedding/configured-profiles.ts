import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { messageOf } from "../util/error-message.ts";
import {
  type CleanUp,
  canShortenTo,
  describeDimensions,
  type ModelProfile,
  type ProfileParts,
  profileFrom,
} from "./model-profile.ts";
import { partsForModel, partsOfProfile, profileNames, shortModelName } from "./model-profiles.ts";

/** Finds the profile of a model by its Ollama name. */
export type FindProfile = (model: string) => ModelProfile;

/** The profiles that the operator configured. All of them can be used unless there are problems. */
export interface ConfiguredProfiles {
  readonly find: FindProfile;
  /** One sentence for each problem, with the allowed values. */
  readonly problems: readonly string[];
}

/** The maximum dimensions of pgvector's `vector` type. */
const MAX_DIMENSIONS = 16_000;
const MAX_CONTEXT_TOKENS = 1_000_000;
const MAX_PREFIX_LENGTH = 2_000;
/** Shorter chunks carry too little meaning. */
const MIN_CHUNK_LENGTH = 64;

/** The fields of an entry with their allowed values. An omitted field has the value of the profile that the entry starts from. */
const entries = {
  profile: `one of ${profileNames().join(", ")}`,
  query_prefix: `text of at most ${MAX_PREFIX_LENGTH} characters`,
  document_prefix: `text of at most ${MAX_PREFIX_LENGTH} characters`,
  dimensions: `a whole number from 1 to ${MAX_DIMENSIONS}`,
  shorter_dimensions: `a list of whole numbers from 1 to ${MAX_DIMENSIONS}`,
  context_tokens: `a whole number from 64 to ${MAX_CONTEXT_TOKENS}`,
  clean_up: "none or uncased",
} as const;

type Entry = keyof typeof entries;

/**
 * Reads profiles that extend or change the built-in ones.
 *
 * @param setting JSON or the path of a JSON file: an object with an entry for each model, by its Ollama name with or without a
 * tag. Undefined selects the built-in profiles alone.
 */
export function readConfiguredProfiles(setting: string | undefined): ConfiguredProfiles {
  const problems: string[] = [];
  const own = new Map<string, ModelProfile>();
  const json = setting === undefined ? {} : parse(setting, problems);
  if (!isObject(json)) problems.push("must be an object with an entry for each model");
  else {
    for (const [model, given] of Object.entries(json)) {
      const profile = profileOf(model, given, (problem) =>
        problems.push(`of ${JSON.stringify(model)}: ${problem}`),
      );
      const key = keyOf(model);
      if (own.has(key)) problems.push(`names ${JSON.stringify(model)} twice`);
      if (profile !== undefined) own.set(key, profile);
    }
  }
  return {
    problems,
    find(model) {
      const { base } = shortModelName(model);
      return own.get(keyOf(model)) ?? own.get(base) ?? profileFrom(partsForModel(model));
    },
  };
}

function parse(setting: string, problems: string[]): unknown {
  let text = setting;
  if (!setting.trimStart().startsWith("{")) {
    try {
      text = readFileSync(setting, "utf8");
    } catch {
      problems.push(`must be JSON or the path of a readable file, got ${JSON.stringify(setting)}`);
      return {};
    }
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    problems.push(`is not JSON: ${messageOf(error)}`);
    return {};
  }
}

function profileOf(
  model: string,
  given: unknown,
  report: (problem: string) => void,
): ModelProfile | undefined {
  if (shortModelName(model).base === "") return void report("must be the name of a model");
  if (!isObject(given)) return void report(`must be an object of ${Object.keys(entries).join(", ")}`);
  let valid = true;
  const complain = (problem: string) => {
    valid = false;
    report(problem);
  };
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(entries, name)) {
      complain(`has an unknown entry "${name}"; known are ${Object.keys(entries).join(", ")}`);
    }
  }
  /** Returns the value of a field; undefined if it is omitted or invalid. */
  const read = <T>(name: Entry, isRight: (value: unknown) => value is T): T | undefined => {
    const value = given[name];
    if (value === undefined || isRight(value)) return value;
    complain(`${name} must be ${entries[name]}, got ${JSON.stringify(value)}`);
    return undefined;
  };

  const start = read("profile", isProfileName);
  const built = (start === undefined ? undefined : partsOfProfile(start)) ?? partsForModel(model);
  const shorter = read("shorter_dimensions", isListOfDimensions) ?? built.shorter;
  const contextTokens = read("context_tokens", isWholeNumber(64, MAX_CONTEXT_TOKENS));
  const query = read("query_prefix", isPrefix) ?? built.query;
  const document = read("document_prefix", isPrefix) ?? built.document;
  const cleanUp = read("clean_up", isCleanUp) ?? built.cleanUp;
  const dimensions = read("dimensions", isWholeNumber(1, MAX_DIMENSIONS));
  const parts: ProfileParts = {
    ...built,
    ...(shorter === undefined ? {} : { shorter }),
    ...(query === undefined ? {} : { query }),
    ...(document === undefined ? {} : { document }),
    ...(cleanUp === undefined ? {} : { cleanUp }),
    ...(contextTokens === undefined ? {} : { contextTokens, sendOptions: true }),
  };
  if (!valid) return undefined;
  const shortened = withDimensions(parts, dimensions, complain);
  if (profileFrom(shortened).maxChunkLength < MIN_CHUNK_LENGTH) {
    complain("context_tokens must leave room for a text after its prefix");
  }
  return valid ? profileFrom({ ...shortened, name: nameOf(built, shortened) }) : undefined;
}

/** Returns the parts with these dimensions: the model's own, or shortened ones. */
function withDimensions(
  parts: ProfileParts,
  dimensions: number | undefined,
  complain: (problem: string) => void,
): ProfileParts {
  if (dimensions === undefined) return parts;
  const lengths = { shorterDimensions: parts.shorter ?? [] };
  if (canShortenTo(lengths, dimensions)) return { ...parts, dimensions, shortenTo: dimensions };
  if (parts.dimensions !== undefined && parts.dimensions !== dimensions) {
    const own = parts.shortenTo === undefined ? parts.dimensions : undefined;
    complain(`dimensions must be one of ${describeDimensions(lengths, own)}, got ${dimensions}`);
  }
  return { ...parts, dimensions };
}

/** Returns a name that covers everything that alters embeddings, so that embeddings of two profiles are never compared. */
function nameOf(built: ProfileParts, own: ProfileParts): string {
  const identity = ({ query = "", document = "", cleanUp = "none", contextTokens }: ProfileParts) =>
    JSON.stringify([query, document, cleanUp, contextTokens]);
  if (identity(own) === identity(built)) return built.name;
  return `${built.name}+${createHash("sha256").update(identity(own)).digest("hex").slice(0, 8)}`;
}

function keyOf(model: string): string {
  const { base, tag } = shortModelName(model);
  return tag === undefined || tag === "latest" ? base : `${base}:${tag}`;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isProfileName(value: unknown): value is string {
  return typeof value === "string" && profileNames().includes(value);
}

function isPrefix(value: unknown): value is string {
  return typeof value === "string" && value.length <= MAX_PREFIX_LENGTH && value.isWellFormed();
}

function isCleanUp(value: unknown): value is CleanUp {
  return value === "none" || value === "uncased";
}

function isWholeNumber(min: number, max: number) {
  return (value: unknown): value is number =>
    typeof value === "number" && Number.isInteger(value) && value >= min && value <= max;
}

function isListOfDimensions(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every(isWholeNumber(1, MAX_DIMENSIONS));
}
