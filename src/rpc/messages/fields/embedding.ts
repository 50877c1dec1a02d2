import type { EmbeddingValues } from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { CallerEmbedding } from "../../../memory/model/caller-embedding.ts";
import type { FieldViolation } from "../../../memory/model/errors.ts";
import { LIMITS } from "../../../memory/model/limits.ts";

/**
 * Reads an embedding of the caller's own and brings it to unit length. `path` is that of its field in the request.
 *
 * @param violations gets what is wrong; whether the domain uses the version, and how many numbers that has, is found
 * out later
 */
export function embeddingFromMessage(
  { values, embeddingVersion }: EmbeddingValues,
  path: string,
  violations: FieldViolation[],
): CallerEmbedding {
  const report = (field: string, description: string) =>
    violations.push({ field: `${path}.${field}`, description });
  const unfit = values.findIndex((value) => !Number.isFinite(value));
  const length = Math.hypot(...values.slice(0, LIMITS.dimensions));
  if (values.length < 1 || values.length > LIMITS.dimensions) {
    report("values", `must have 1 to ${LIMITS.dimensions} numbers, has ${values.length}`);
  } else if (unfit >= 0) {
    report(`values[${unfit}]`, `must be a finite number, is ${values[unfit]}`);
  } else if (length === 0) {
    report("values", "must not be all 0");
  }
  if (embeddingVersion < 1) report("embedding_version", `must be at least 1, is ${embeddingVersion}`);
  return { vector: Float32Array.from(values, (value) => value / length), version: embeddingVersion };
}
