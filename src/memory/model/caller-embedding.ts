import type { DomainRecord } from "./domain.ts";
import { assertNoViolations, type FieldViolation } from "./errors.ts";

/** A caller-supplied embedding. Comparable only with embeddings of the same version. */
export interface CallerEmbedding {
  /** Float32Array of unit length. */
  readonly vector: Float32Array;
  readonly version: number;
}

type Space = Pick<DomainRecord, "embeddingVersion" | "dimensions">;

/**
 * Checks that a domain uses the version of an embedding, and that the embedding has the dimensions of the domain.
 *
 * @param path Path of the embedding's field, for the error.
 * @throws ServiceError INVALID_ARGUMENT
 */
export function assertCompatible(embedding: CallerEmbedding, space: Space, path: string): void {
  assertNoViolations(compatibilityViolations(embedding, space, path));
}

function compatibilityViolations(
  { vector, version }: CallerEmbedding,
  { embeddingVersion, dimensions }: Space,
  path: string,
): FieldViolation[] {
  if (version !== embeddingVersion) {
    const used = embeddingVersion === undefined ? "which has none yet" : `which is ${embeddingVersion}`;
    const description = `must be the embedding version of the domain, ${used}; is ${version}`;
    return [{ field: `${path}.embedding_version`, description }];
  }
  if (dimensions !== undefined && vector.length !== dimensions) {
    const description = `must have the ${dimensions} dimensions of the embedding version, has ${vector.length}`;
    return [{ field: `${path}.values`, description }];
  }
  return [];
}
