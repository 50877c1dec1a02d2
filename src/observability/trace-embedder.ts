import type { Tracer } from "@opentelemetry/api";
import type { Embedder } from "../memory/model/embedder.ts";
import { inChildSpan } from "./spans.ts";

/** Returns a wrapper of the embedder that records calls as spans `embed`, without their texts. */
export function traceEmbedder<E extends Embedder>(embedder: E, tracer: Tracer): E {
  const embed: Embedder["embed"] = (texts, role, signal) =>
    inChildSpan(
      tracer,
      () => ({
        name: "embed",
        attributes: {
          "gen_ai.operation.name": "embeddings",
          "gen_ai.request.model": embedder.space()?.model ?? "",
          "memory_service.embedding.role": role,
          "memory_service.embedding.texts": texts.length,
        },
      }),
      () => embedder.embed(texts, role, signal),
    );
  return { ...embedder, embed };
}
