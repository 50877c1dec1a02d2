import type { EmbeddingStatus, JsonValue, Microseconds } from "./memory.ts";

/**
 * Which memories to consider: one condition, or a combination of filters. A condition on a field that a memory does not
 * have is false, so its negation is true. There is no third value.
 */
export type Filter =
  | { readonly kind: "all_of" | "any_of" | "none_of"; readonly filters: readonly Filter[] }
  | { readonly kind: "ids"; readonly ids: readonly string[] }
  /** "" matches memories without a source. */
  | { readonly kind: "sources"; readonly sources: readonly string[] }
  | { readonly kind: "tags_any" | "tags_all"; readonly tags: readonly string[] }
  | { readonly kind: "importance"; readonly range: NumberRange }
  | { readonly kind: "create_time" | "update_time"; readonly range: TimeRange }
  /** `path`: the keys of nested objects in the metadata. A path cannot lead into a list. */
  | { readonly kind: "metadata"; readonly path: readonly string[]; readonly test: MetadataTest }
  | { readonly kind: "embedding_state"; readonly state: EmbeddingStatus["state"] };

/** The test of a value in the metadata. Values are compared as JSON: 1 equals 1.0, but never equals "1". */
export type MetadataTest =
  /** The value equals one of these. Lists and objects are compared completely. */
  | { readonly kind: "one_of"; readonly values: readonly JsonValue[] }
  | { readonly kind: "range"; readonly range: NumberRange }
  /** Whether a value exists, including null. */
  | { readonly kind: "exists"; readonly exists: boolean }
  /** The value is a list that contains an equal element. */
  | { readonly kind: "contains"; readonly element: JsonScalar }
  | { readonly kind: "prefix"; readonly prefix: string };

export type JsonScalar = null | boolean | number | string;

/** A range of numbers. Bounds may be infinite but not NaN. */
export interface NumberRange {
  readonly gte: number | undefined;
  readonly gt: number | undefined;
  readonly lte: number | undefined;
  readonly lt: number | undefined;
}

/** A range of times. `end` is exclusive. */
export interface TimeRange {
  readonly start: Microseconds | undefined;
  readonly end: Microseconds | undefined;
}
