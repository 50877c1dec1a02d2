import type { FieldViolation } from "../../memory/model/errors.ts";
import { DOMAIN_NAME, LIMITS, MEMORY_ID } from "../../memory/model/limits.ts";
import type { JsonValue } from "../../memory/model/memory.ts";
import { RESERVED_METADATA_KEYS } from "../../memory/model/memory.ts";

/** Describes what is wrong with a value and what is allowed. Returns undefined for a valid value. */
export type Rule<T> = (value: T) => string | undefined;

/** Rules for the fields of `T`, by the names of the generated type. */
export type Rules<T> = { readonly [K in keyof T]?: Rule<T[K]> };

/** Checks a message against a table of rules. `path` prefixes the names of its fields. */
export function violationsOf<T extends object>(message: T, rules: Rules<T>, path = ""): FieldViolation[] {
  const violations: FieldViolation[] = [];
  for (const key of Object.keys(rules) as (keyof T & string)[]) {
    const description = rules[key]?.(message[key]);
    if (description !== undefined) violations.push({ field: path + protoName(key), description });
  }
  return violations;
}

/** Combines rules: the first violated one applies. */
export function all<T>(...rules: readonly Rule<T>[]): Rule<T> {
  return (value) => {
    for (const rule of rules) {
      const description = rule(value);
      if (description !== undefined) return description;
    }
    return undefined;
  };
}

/** Applies a rule only to fields that are set. */
export function whenSet<T>(rule: Rule<T>): Rule<T | undefined> {
  return (value) => (value === undefined ? undefined : rule(value));
}

/** Rejects NUL, which PostgreSQL cannot store, and lone surrogates, which are not valid Unicode. */
export const storableText: Rule<string> = (value) => {
  if (value.includes("\0")) return "must not contain the NUL character";
  if (!value.isWellFormed()) return "must be well-formed Unicode, has a lone surrogate";
  return undefined;
};

export function bytesAtMost(bytes: number): Rule<string> {
  return (value) => {
    const length = Buffer.byteLength(value);
    return length > bytes ? `must have at most ${bytes} bytes of UTF-8, has ${length}` : undefined;
  };
}

export function charactersAtMost(characters: number): Rule<string> {
  return (value) => {
    let length = 0;
    for (const _ of value) length++;
    return length > characters ? `must have at most ${characters} characters, has ${length}` : undefined;
  };
}

/** Rejects empty text and white space, which neither full-text nor semantic search can use. */
export const meaningfulText: Rule<string> = (value) =>
  /\S/u.test(value) ? undefined : value === "" ? "must not be empty" : "must contain more than white space";

/** Allows the empty string, which selects the default domain. */
export const domainName: Rule<string> = (value) =>
  value === "" || DOMAIN_NAME.test(value)
    ? undefined
    : `must be a lower-case letter, then at most 39 of a-z, 0-9, _ and -, got ${quote(value)}`;

/** Allows the empty string, for which the server generates an id. */
export const memoryId: Rule<string> = (value) =>
  value === "" || MEMORY_ID.test(value)
    ? undefined
    : `must have 1 to ${LIMITS.idLength} characters of A-Z, a-z, 0-9, ., _, : and -, got ${quote(value)}`;

/** Rejects the empty string, for fields without a default. */
export const mustBeSet: Rule<string> = (value) => (value === "" ? "must not be empty" : undefined);

/** Rejects versions below 1, the first version. */
export const versionNumber: Rule<bigint> = (value) =>
  value >= 1n ? undefined : `must be at least 1, got ${value}`;

export function integerBetween(min: number, max: number): Rule<number> {
  return (value) =>
    Number.isInteger(value) && value >= min && value <= max
      ? undefined
      : `must be from ${min} to ${max}, got ${value}`;
}

export function numberBetween(min: number, max: number): Rule<number> {
  return (value) =>
    value >= min && value <= max ? undefined : `must be from ${min} to ${max}, got ${value}`;
}

export const finiteNumber: Rule<number> = (value) =>
  Number.isFinite(value) ? undefined : `must be a finite number, got ${value}`;

export function numberAtLeast(min: number): Rule<number> {
  return (value) =>
    Number.isFinite(value) && value >= min ? undefined : `must be at least ${min}, got ${value}`;
}

/** Rejects unknown enum values, because proto3 enums are open and decode any number. */
export function knownEnum(values: Readonly<Record<string, string | number>>): Rule<number> {
  const known = new Set(Object.values(values).filter((value) => typeof value === "number"));
  return (value) =>
    known.has(value)
      ? undefined
      : `must be one of ${[...known].sort((a, b) => a - b).join(", ")}, got ${value}`;
}

export const tags: Rule<readonly string[]> = (value) => {
  if (value.length > LIMITS.tagCount) return `must have at most ${LIMITS.tagCount} tags, has ${value.length}`;
  for (const [index, tag] of value.entries()) {
    const wrong =
      tag === "" ? "must not be empty" : all(storableText, charactersAtMost(LIMITS.tagLength))(tag);
    if (wrong !== undefined) return `tag ${index} ${wrong}`;
  }
  return undefined;
};

export const metadata: Rule<{ readonly [key: string]: JsonValue }> = (value) =>
  metadataProblem(value, LIMITS.metadataDepth) ?? bytesAtMost(LIMITS.metadataBytes)(JSON.stringify(value));

/** Allows metadata of any size and depth. Decoding a message limits the depth. */
export const importedMetadata: Rule<{ readonly [key: string]: JsonValue }> = (value) =>
  metadataProblem(value, Number.POSITIVE_INFINITY);

function metadataProblem(value: { readonly [key: string]: JsonValue }, maxDepth: number): string | undefined {
  for (const key of RESERVED_METADATA_KEYS) {
    if (Object.hasOwn(value, key)) return `must not have the key "${key}": set the field ${key} instead`;
  }
  return jsonProblem(value, 1, maxDepth);
}

function jsonProblem(value: JsonValue | undefined, depth: number, maxDepth: number): string | undefined {
  if (typeof value === "string") return storableText(value);
  if (typeof value === "number") {
    return Number.isFinite(value) ? undefined : "must contain finite numbers only, has NaN or infinity";
  }
  // A protobuf Value can arrive without a kind.
  if (value === undefined) return "must have a value for every key";
  if (value === null || typeof value !== "object") return undefined;
  if (depth > maxDepth) return `must have at most ${maxDepth} levels, has more`;
  for (const [key, inner] of Object.entries(value)) {
    const wrong =
      (Array.isArray(value) ? undefined : storableText(key)) ?? jsonProblem(inner, depth + 1, maxDepth);
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

/** Quotes a value for a description, shortened and on one line. */
export function quote(value: string): string {
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
}

/** Converts a name such as `minSimilarity` to its proto name, `min_similarity`. */
function protoName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
