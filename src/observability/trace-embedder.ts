import type { Tracer } from "@opentelemetry/api";
import type { Embedder } from "../memory/model/embedder.ts";
import { inChildSpan } from "./spans.ts";

/** The same embedder, whose calls are spans `embed` below the span of their call; no text is in them. */
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
