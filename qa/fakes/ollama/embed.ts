import { type EngineResult, installedModel, runEngine } from "./engine.ts";
import { decodeRequest, keepAliveMsFrom } from "./go-json.ts";
import { jsonReply, Refusal, type Reply } from "./reply.ts";
import { vectorValues } from "./vector-faults.ts";
import { scaled } from "./vectors.ts";
import type { Call } from "./world.ts";

/** `POST /api/embed`. The order of the checks is Ollama's. */
export async function handleEmbed(call: Call): Promise<Reply> {
  const request = decodeRequest(call.body, "EmbedRequest", {
    model: "string",
    truncate: "bool",
    dimensions: "int",
    options: "map[string]interface {}",
  });
  const keepAliveMs = keepAliveMsFrom(request.keep_alive);
  const name = String(request.model ?? "");
  if (name === "") throw new Refusal(404, "model '' not found");
  const texts = textsOf(request.input);
  const model = installedModel(call, name);
  const result = await runEngine(call, {
    model,
    texts,
    truncate: request.truncate !== false,
    tooLongStatus: 400,
    dimensions: typeof request.dimensions === "number" ? request.dimensions : undefined,
    options: request.options,
    keepAliveMs,
  });
  if (texts.length === 0) return jsonReply({ model: name, embeddings: [] });
  return jsonReply({
    model: name,
    ...embeddingsField(call, result),
    total_duration: result.totalNs,
    load_duration: result.loadNs,
    prompt_eval_count: result.promptTokens,
  });
}

/** `POST /api/embeddings`, the old endpoint: one text, never truncated, not of unit length for every model. */
export async function handleLegacyEmbeddings(call: Call): Promise<Reply> {
  const request = decodeRequest(call.body, "EmbeddingRequest", {
    model: "string",
    prompt: "string",
    options: "map[string]interface {}",
  });
  const keepAliveMs = keepAliveMsFrom(request.keep_alive);
  const name = String(request.model ?? "");
  if (name === "") throw new Refusal(400, "model is required");
  const model = installedModel(call, name);
  const prompt = String(request.prompt ?? "");
  const { vectors } = await runEngine(call, {
    model,
    texts: prompt === "" ? [] : [prompt],
    truncate: false,
    tooLongStatus: 500,
    options: request.options,
    keepAliveMs,
  });
  const legacy = vectors.map((vector) => scaled(vector, model.legacyScale ?? 1));
  return jsonReply({ embedding: vectorValues(legacy, call.fault)[0] ?? [] });
}

/** `POST /v1/embeddings`, Ollama's OpenAI-compatible endpoint. */
export async function handleOpenAiEmbeddings(call: Call): Promise<Reply> {
  const request = decodeRequest(call.body, "EmbedRequest", {
    model: "string",
    dimensions: "int",
    encoding_format: "string",
  });
  const name = String(request.model ?? "");
  const input = request.input === "" ? [""] : request.input;
  if (input === undefined || input === null || (Array.isArray(input) && input.length === 0)) {
    throw new Refusal(400, "invalid input");
  }
  if (name === "") throw new Refusal(404, "model '' not found");
  const texts = textsOf(input);
  const result = await runEngine(call, {
    model: installedModel(call, name),
    texts,
    truncate: true,
    tooLongStatus: 400,
    dimensions: typeof request.dimensions === "number" ? request.dimensions : undefined,
    options: undefined,
    keepAliveMs: undefined,
  });
  const base64 = request.encoding_format === "base64";
  return jsonReply({
    object: "list",
    data: vectorValues(result.vectors, call.fault).map((embedding, index) => ({
      object: "embedding",
      embedding: base64 ? toBase64(embedding) : embedding,
      index,
    })),
    model: name,
    usage: { prompt_tokens: result.promptTokens, total_tokens: result.promptTokens },
  });
}

/** Errors of `/v1` have a different format. */
export function openAiError({ status, error }: Refusal): Reply {
  const types: Record<number, string> = { 400: "invalid_request_error", 404: "not_found_error" };
  const message = typeof error === "string" ? error : JSON.stringify(error);
  return jsonReply(
    { error: { message, type: types[status] ?? "api_error", param: null, code: null } },
    status,
  );
}

/** Returns the texts of an `input`; an empty string, an empty list and a missing input have no texts. */
function textsOf(input: unknown): string[] {
  if (input === undefined || input === null || input === "") return [];
  const texts: unknown = typeof input === "string" ? [input] : input;
  if (Array.isArray(texts) && texts.every((text) => typeof text === "string")) return texts;
  throw new Refusal(400, "invalid input type");
}

function embeddingsField(call: Call, result: EngineResult): Readonly<Record<string, unknown>> {
  const { fault } = call;
  const embeddings = vectorValues(result.vectors, fault);
  if (fault?.kind !== "wrongCount") return { embeddings };
  switch (fault.form) {
    case "empty":
      return { embeddings: [] };
    case "nullVector":
      return { embeddings: [null] };
    case "missing":
      return {};
    case "legacyKey":
      return { embedding: Array.from(result.vectors[0] ?? []) };
    default:
      return { embeddings };
  }
}

function toBase64(embedding: unknown): string {
  const numbers = Array.isArray(embedding) ? embedding.map(Number) : [];
  const bytes = Buffer.alloc(numbers.length * 4);
  for (const [index, number] of numbers.entries()) bytes.writeFloatLE(number, index * 4);
  return bytes.toString("base64");
}
