import type { EmbeddingValues } from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { CallerEmbedding } from "../../../memory/model/caller-embedding.ts";
import type { FieldViolation } from "../../../memory/model/errors.ts";
import { LIMITS } from "../../../memory/model/limits.ts";

/**
 * Converts a caller-supplied embedding and normalizes it to unit length. `path` is the path of its field in the
 * request.
 *
 * @param violations receives the violations. Whether the domain uses the version and its dimensions is checked later.
 */
export function embeddingFromMessage(
  { values, embeddingVersion }: EmbeddingValues,
  path: string,
  violations: FieldViolation[],
): CallerEmbedding {
  const report = (field: string, description: string) =>
    violations.push({ field: `${path}.${field}`, description });
  const invalidIndex = values.findIndex((value) => !Number.isFinite(value));
  const length = Math.hypot(...values.slice(0, LIMITS.dimensions));
  if (values.length < 1 || values.length > LIMITS.dimensions) {
    report("values", `must have 1 to ${LIMITS.dimensions} numbers, has ${values.length}`);
  } else if (invalidIndex >= 0) {
    report(`values[${invalidIndex}]`, `must be a finite number, got ${values[invalidIndex]}`);
  } else if (length === 0) {
    report("values", "must not be all 0");
  }
  if (embeddingVersion < 1) report("embedding_version", `must be at least 1, got ${embeddingVersion}`);
  return { vector: Float32Array.from(values, (value) => value / length), version: embeddingVersion };
}
