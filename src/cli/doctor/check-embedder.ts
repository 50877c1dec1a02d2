import type { SettingValues } from "../../app/config.ts";
import { readConfiguredProfiles } from "../../embedding/configured-profiles.ts";
import type { EmbeddingSpace } from "../../embedding/embedder.ts";
import { createOllamaClient, type OllamaClient } from "../../embedding/ollama/ollama-client.ts";
import { OllamaError } from "../../embedding/ollama/ollama-errors.ts";
import { type Check, ok, problem, warning } from "./check.ts";

/** What was found of Ollama and the model. */
export interface EmbedderFindings {
  readonly checks: readonly Check[];
  /** With its tag, as configured. */
  readonly model: string;
  /** What the model's embeddings are like; undefined if it made none. */
  readonly space: EmbeddingSpace | undefined;
}

/** For a model that has to be loaded first, from a slow disk. */
const EMBED_TIMEOUT_MS = 60_000;

/** More dimensions than pgvector puts into an index. */
const MAX_INDEXED_DIMENSIONS = 2_000;

const TEXTS = ["the train leaves at noon", "a recipe for lentil soup"] as const;

/** Asks Ollama for its version and its model, and has it embed two short texts. */
export async function checkEmbedder(settings: SettingValues): Promise<EmbedderFindings> {
  const { OLLAMA_API_URL: url, OLLAMA_EMBEDDING_MODEL: configured } = settings;
  const profile = readConfiguredProfiles(settings.MEMORY_MODEL_PROFILES).find(configured);
  const client = createOllamaClient({ url, model: configured, profile });
  const { model } = client;

  let version: string;
  let digest: string | undefined;
  try {
    version = await client.version();
    digest = await client.digest();
  } catch (error) {
    const detail = `${sentenceOf(error)}, asked at ${client.address}; searches find by words only`;
    return { model, space: undefined, checks: [problem("ollama", detail, remedyOf(error))] };
  }
  const checks = [ok("ollama", `Ollama ${version} answers at ${client.address}`)];
  if (digest === undefined) {
    checks.push(checkMissing(configured, settings.MEMORY_PULL_MODEL));
    return { checks, model, space: undefined };
  }
  const { check, dimensions } = await checkModel(client, configured, digest, profile.name);
  checks.push(check);
  if (dimensions === undefined) return { checks, model, space: undefined };
  if (dimensions > MAX_INDEXED_DIMENSIONS) {
    checks.push(
      warning(
        "model",
        `${dimensions} dimensions are more than the ${MAX_INDEXED_DIMENSIONS} that an index takes: each search reads every embedding`,
        "choose a model of fewer dimensions for domains of more than some thousand memories",
      ),
    );
  }
  return { checks, model, space: { model, digest, dimensions, profile: profile.name } };
}

function checkMissing(configured: string, pulls: boolean): Check {
  const remedy = `ollama pull ${configured}`;
  return pulls
    ? warning(
        "model",
        `Ollama does not have "${configured}" yet; the server pulls it, which takes its time`,
        `to have it at once: ${remedy}`,
      )
    : problem("model", `Ollama does not have "${configured}", and MEMORY_PULL_MODEL is false`, remedy);
}

async function checkModel(
  client: OllamaClient,
  configured: string,
  digest: string,
  profile: string,
): Promise<{ readonly check: Check; readonly dimensions?: number }> {
  try {
    const facts = await client.facts();
    if (facts.embeds === false) return { check: noEmbeddingModel(configured) };
    const start = performance.now();
    const [embedding] = await client.embed(TEXTS, { timeoutMs: EMBED_TIMEOUT_MS, dimensions: undefined });
    const ms = Math.round(performance.now() - start);
    const dimensions = embedding?.length ?? 0;
    const identity = `digest ${digest.slice(0, 12) || "unknown"}, profile ${profile}`;
    const detail = `${client.model} embeds, with ${dimensions} dimensions (${identity}); two texts took ${ms} ms`;
    return { check: ok("model", detail), dimensions };
  } catch (error) {
    if (error instanceof OllamaError && /does not produce embeddings/.test(error.message)) {
      return { check: noEmbeddingModel(configured) };
    }
    const detail = `"${configured}" cannot be used: ${sentenceOf(error)}; searches find by words only`;
    return { check: problem("model", detail, remedyOf(error)) };
  }
}

function noEmbeddingModel(configured: string): Check {
  return problem(
    "model",
    `"${configured}" does not produce embeddings`,
    "set OLLAMA_EMBEDDING_MODEL to an embedding model, such as nomic-embed-text",
  );
}

function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function remedyOf(error: unknown): string {
  return (error instanceof OllamaError ? error.remedy : undefined) ?? "see Ollama's log";
}
