import type { Tracer } from "@opentelemetry/api";
import { readConfiguredProfiles } from "../embedding/configured-profiles.ts";
import { createEmbedders } from "../embedding/embedders.ts";
import { createOllamaEmbedder } from "../embedding/ollama/ollama-embedder.ts";
import type { Embedder, Embedders } from "../memory/model/embedder.ts";
import type { Metrics } from "../observability/metrics.ts";
import { traceEmbedder } from "../observability/trace-embedder.ts";
import type { Logger } from "../util/logger.ts";
import type { SettingValues } from "./config.ts";

/**
 * Creates the embedder of the default model, and the embedders of all models that domains use. Only the default model
 * is included in the metrics.
 */
export function openEmbedders(dependencies: {
  readonly settings: SettingValues;
  readonly metrics: Metrics | undefined;
  readonly tracer: Tracer;
  readonly logger: Logger;
}): { readonly embedder: Embedder; readonly embedders: Embedders } {
  const { settings, metrics, tracer, logger } = dependencies;
  const { find: findProfile } = readConfiguredProfiles(settings.MEMORY_MODEL_PROFILES);
  const defaultModel = settings.OLLAMA_EMBEDDING_MODEL;
  const createFor = (model: string, dimensions?: number) =>
    createOllamaEmbedder({
      url: settings.OLLAMA_API_URL,
      pull: settings.MEMORY_PULL_MODEL,
      logger,
      model,
      profile: findProfile(model),
      ...(dimensions === undefined ? {} : { dimensions }),
    });
  const ollama = createFor(defaultModel);
  const embedder = traceEmbedder(metrics?.countEmbedder(ollama) ?? ollama, tracer);
  const embedders = createEmbedders(embedder, ({ embeddingModel = defaultModel, requestedDimensions }) =>
    traceEmbedder(createFor(embeddingModel, requestedDimensions), tracer),
  );
  return { embedder, embedders };
}
