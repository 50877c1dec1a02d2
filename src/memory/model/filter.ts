import type { EmbeddingStatus, JsonValue, Microseconds } from "./memory.ts";

/**
 * Which memories to look at: one condition, or a combination of filters. A condition on something that a memory does
 * not have is false, so its negation is true: there is no third value.
 */
export type Filter =
  | { readonly kind: "all_of" | "any_of" | "none_of"; readonly filters: readonly Filter[] }
  | { readonly kind: "ids"; readonly ids: readonly string[] }
  /** "" stands for memories without a source. */
  | { readonly kind: "sources"; readonly sources: readonly string[] }
  | { readonly kind: "tags_any" | "tags_all"; readonly tags: readonly string[] }
  | { readonly kind: "importance"; readonly range: NumberRange }
  | { readonly kind: "create_time" | "update_time"; readonly range: TimeRange }
  /** `path`: keys from the outermost object of the caller's metadata to the place; never an element of a list. */
  | { readonly kind: "metadata"; readonly path: readonly string[]; readonly test: MetadataTest }
  | { readonly kind: "embedding_state"; readonly state: EmbeddingStatus["state"] };

/** What has to hold at a place in the metadata. Values are compared as JSON: 1 equals 1.0, a number never a string. */
export type MetadataTest =
  /** The value there equals one of these, lists and objects as a whole. */
  | { readonly kind: "one_of"; readonly values: readonly JsonValue[] }
  | { readonly kind: "range"; readonly range: NumberRange }
  /** Whether there is a value, be it null. */
  | { readonly kind: "exists"; readonly exists: boolean }
  /** The value there is a list with an element that equals this one. */
  | { readonly kind: "contains"; readonly element: JsonScalar }
  | { readonly kind: "prefix"; readonly prefix: string };

export type JsonScalar = null | boolean | number | string;

/** Bounds of a number; infinite ones are allowed, NaN is not. */
export interface NumberRange {
  readonly gte: number | undefined;
  readonly gt: number | undefined;
  readonly lte: number | undefined;
  readonly lt: number | undefined;
}

/** From `start` up to, not including, `end`. */
export interface TimeRange {
  readonly start: Microseconds | undefined;
  readonly end: Microseconds | undefined;
}
