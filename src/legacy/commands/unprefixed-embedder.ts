import type { SettingValues } from "../../app/config.ts";
import { readConfiguredProfiles } from "../../embedding/configured-profiles.ts";
import { createOllamaEmbedder, type OllamaEmbedder } from "../../embedding/ollama/ollama-embedder.ts";
import type { Logger } from "../../util/logger.ts";

/**
 * Creates an embedder for the configured model that passes texts unchanged, without prefixes, as the old server did.
 * The caller closes it.
 */
export function createUnprefixedEmbedder(settings: SettingValues, logger: Logger): OllamaEmbedder {
  const { OLLAMA_API_URL: url, OLLAMA_EMBEDDING_MODEL: model } = settings;
  const profile = readConfiguredProfiles(settings.MEMORY_MODEL_PROFILES).find(model);
  return createOllamaEmbedder({
    url,
    model,
    pull: false,
    logger,
    profile: { ...profile, queryPrefix: "", documentPrefix: "", clean: (text) => text },
  });
}
