import type { FieldViolation } from "../../memory/model/errors.ts";
import { DOMAIN_NAME, LIMITS, MEMORY_ID } from "../../memory/model/limits.ts";
import type { JsonValue } from "../../memory/model/memory.ts";
import { RESERVED_METADATA_KEYS } from "../../memory/model/memory.ts";

/** Says what is wrong with a value and what is allowed; undefined if nothing is. */
export type Rule<T> = (value: T) => string | undefined;

/** A rule for every field of `T` that needs one, by its name in the generated type. */
export type Rules<T> = { readonly [K in keyof T]?: Rule<T[K]> };

/** Checks a message against a table of rules; `path` is put before the names of its fields. */
export function violationsOf<T extends object>(message: T, rules: Rules<T>, path = ""): FieldViolation[] {
  const violations: FieldViolation[] = [];
  for (const key of Object.keys(rules) as (keyof T & string)[]) {
    const description = rules[key]?.(message[key]);
    if (description !== undefined) violations.push({ field: path + protoName(key), description });
  }
  return violations;
}

/** The first description that a chain of rules gives. */
export function all<T>(...rules: readonly Rule<T>[]): Rule<T> {
  return (value) => {
    for (const rule of rules) {
      const description = rule(value);
      if (description !== undefined) return description;
    }
    return undefined;
  };
}

/** Applies a rule to what is set only. */
export function whenSet<T>(rule: Rule<T>): Rule<T | undefined> {
  return (value) => (value === undefined ? undefined : rule(value));
}

/** PostgreSQL stores no NUL, and half a surrogate pair is no Unicode text. */
export const storableText: Rule<string> = (value) => {
  if (value.includes("\0")) return "must not contain the NUL character";
  if (!value.isWellFormed()) return "must be well-formed Unicode, has half of a surrogate pair";
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

/** Not empty, and more than white space: the model and the words would have nothing to hold on to. */
export const meaningfulText: Rule<string> = (value) =>
  /\S/u.test(value) ? undefined : value === "" ? "must not be empty" : "must contain more than white space";

/** Empty stands for the default domain. */
export const domainName: Rule<string> = (value) =>
  value === "" || DOMAIN_NAME.test(value)
    ? undefined
    : `must be a lower-case letter, then at most 39 of a-z, 0-9, _ and -, is ${quote(value)}`;

/** Empty: the server makes one. */
export const memoryId: Rule<string> = (value) =>
  value === "" || MEMORY_ID.test(value)
    ? undefined
    : `must have 1 to ${LIMITS.idLength} characters of A-Z, a-z, 0-9, ., _, : and -, is ${quote(value)}`;

/** For what an empty text does not stand for anything in. */
export const mustBeSet: Rule<string> = (value) => (value === "" ? "must not be empty" : undefined);

/** Versions count from 1. */
export const versionNumber: Rule<bigint> = (value) =>
  value >= 1n ? undefined : `must be at least 1, is ${value}`;

export function integerBetween(min: number, max: number): Rule<number> {
  return (value) =>
    Number.isInteger(value) && value >= min && value <= max
      ? undefined
      : `must be from ${min} to ${max}, is ${value}`;
}

export function numberBetween(min: number, max: number): Rule<number> {
  return (value) => (value >= min && value <= max ? undefined : `must be from ${min} to ${max}, is ${value}`);
}

export const finiteNumber: Rule<number> = (value) =>
  Number.isFinite(value) ? undefined : `must be a finite number, is ${value}`;

export function numberAtLeast(min: number): Rule<number> {
  return (value) =>
    Number.isFinite(value) && value >= min ? undefined : `must be at least ${min}, is ${value}`;
}

/** proto3 enums are open: a number without a name arrives as it is. */
export function knownEnum(values: Readonly<Record<string, string | number>>): Rule<number> {
  const known = new Set(Object.values(values).filter((value) => typeof value === "number"));
  return (value) =>
    known.has(value)
      ? undefined
      : `must be one of ${[...known].sort((a, b) => a - b).join(", ")}, is ${value}`;
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

/** Of any size: decoding a message bounds its levels. */
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
    return Number.isFinite(value) ? undefined : "must hold finite numbers only, has NaN or an infinite one";
  }
  // A protobuf Value may be sent without any kind.
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

/** As it stands in descriptions: not too long, and on one line. */
export function quote(value: string): string {
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
}

/** `minSimilarity` as the contract writes it: `min_similarity`. */
function protoName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
