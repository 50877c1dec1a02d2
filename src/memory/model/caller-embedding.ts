import type { DomainRecord } from "./domain.ts";
import { assertNoViolations, type FieldViolation } from "./errors.ts";

/** An embedding that a caller has made, of unit length. Comparable only with others of its version. */
export interface CallerEmbedding {
  readonly vector: Float32Array;
  readonly version: number;
}

type Space = Pick<DomainRecord, "embeddingVersion" | "dimensions">;

/**
 * Whether the domain uses the embedding's version, and how many dimensions that has. `path` is that of its field.
 *
 * @throws ServiceError INVALID_ARGUMENT
 */
export function assertCompatible(own: CallerEmbedding, space: Space, path: string): void {
  assertNoViolations(ownEmbeddingViolations(own, space, path));
}

function ownEmbeddingViolations(
  { vector, version }: CallerEmbedding,
  { embeddingVersion, dimensions }: Space,
  path: string,
): FieldViolation[] {
  if (version !== embeddingVersion) {
    const used = embeddingVersion === undefined ? "which has none yet" : `as ${embeddingVersion}`;
    const description = `must be one that the domain uses, ${used}, is ${version}`;
    return [{ field: `${path}.embedding_version`, description }];
  }
  if (dimensions !== undefined && vector.length !== dimensions) {
    const description = `must have ${dimensions} numbers, as the embedding version has, has ${vector.length}`;
    return [{ field: `${path}.values`, description }];
  }
  return [];
}
