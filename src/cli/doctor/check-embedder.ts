import type { SettingValues } from "../../app/config.ts";
import { readConfiguredProfiles } from "../../embedding/configured-profiles.ts";
import { createOllamaClient, type OllamaClient } from "../../embedding/ollama/ollama-client.ts";
import { OllamaError } from "../../embedding/ollama/ollama-errors.ts";
import type { EmbeddingSpace } from "../../memory/model/embedder.ts";
import { messageOf } from "../../util/error-message.ts";
import { type Check, ok, problem, warning } from "./check.ts";

/** The checks of Ollama and the model, and the model that they found. */
export interface EmbedderFindings {
  readonly checks: readonly Check[];
  /** Name of the configured model, with its tag. */
  readonly model: string;
  /** Describes the model's embeddings; undefined if it returned none. */
  readonly space: EmbeddingSpace | undefined;
}

/** Long enough to load a model from a slow disk first. */
const EMBED_TIMEOUT_MS = 60_000;

/** Maximum number of dimensions that pgvector can index. */
const MAX_INDEXED_DIMENSIONS = 2_000;

const TEXTS = ["the train leaves at noon", "a recipe for lentil soup"] as const;

/** Checks the version of Ollama and the model, and embeds two short texts. */
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
    const detail = `${messageOf(error)} (at ${client.address}); only full-text search works`;
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
        `an index holds at most ${MAX_INDEXED_DIMENSIONS} dimensions, but the model has ${dimensions}: each search reads every embedding`,
        "use a model with fewer dimensions for domains with more than a few thousand memories",
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
        `Ollama does not have "${configured}" yet; the server pulls it, which takes a while`,
        `to pull it now, run "${remedy}"`,
      )
    : problem(
        "model",
        `Ollama does not have "${configured}", and MEMORY_PULL_MODEL is false`,
        `run "${remedy}"`,
      );
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
    const detail = `${client.model} works, with ${dimensions} dimensions (${identity}); embedding two texts took ${ms} ms`;
    return { check: ok("model", detail), dimensions };
  } catch (error) {
    if (error instanceof OllamaError && /does not produce embeddings/.test(error.message)) {
      return { check: noEmbeddingModel(configured) };
    }
    const detail = `"${configured}" cannot be used: ${messageOf(error)}; only full-text search works`;
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

function remedyOf(error: unknown): string {
  return (error instanceof OllamaError ? error.remedy : undefined) ?? "see Ollama's log";
}
