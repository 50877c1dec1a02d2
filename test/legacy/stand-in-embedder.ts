import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";

const DIMENSIONS = 768;

/**
 * Computes a vector as the embedder of the fixtures did. Every lower-case word adds to eight positions that its hash
 * selects, and the last position keeps two texts from having opposite vectors.
 */
export function standInEmbedding(text: string): Float32Array {
  const folded = text.normalize("NFKC").toLowerCase();
  const sum = new Float64Array(DIMENSIONS);
  for (const word of folded.match(/[\p{L}\p{Nd}]+/gu) ?? [text]) {
    const hash = createHash("sha256").update(word, "utf8").digest();
    for (let n = 0; n < 8; n++) {
      const position = hash.readUInt32BE(4 * n);
      sum[position % DIMENSIONS] = (sum[position % DIMENSIONS] ?? 0) + (position < 2 ** 31 ? 1 : -1);
    }
  }
  sum[DIMENSIONS - 1] = (sum[DIMENSIONS - 1] ?? 0) + 0.9 * Math.hypot(...sum);
  const length = Math.hypot(...sum);
  return Float32Array.from(sum, (value) => value / length);
}

interface EmbedBody {
  readonly model?: string;
  readonly input?: string | string[];
}

/** Starts a fake Ollama that serves only this embedder, as the model `stand-in`. */
export async function startStandInOllama(): Promise<AsyncDisposable & { readonly url: string }> {
  const name = "stand-in:latest";
  const answers: Readonly<Record<string, (body: EmbedBody) => unknown>> = {
    "/api/version": () => ({ version: "0.33.0" }),
    "/api/tags": () => ({ models: [{ name, model: name, digest: "5".repeat(64), details: {} }] }),
    "/api/show": () => ({
      capabilities: ["embedding"],
      details: { family: "bert" },
      model_info: {
        "general.architecture": "bert",
        "bert.context_length": 2048,
        "bert.embedding_length": DIMENSIONS,
      },
    }),
    "/api/embed": ({ model, input = [] }) => ({
      model,
      embeddings: [input].flat().map((text) => [...standInEmbedding(text)]),
    }),
  };
  const server = createServer(async (request, response) => {
    const body = request.method === "POST" ? ((await json(request)) as EmbedBody) : {};
    const answer = answers[request.url ?? ""];
    response.writeHead(answer === undefined ? 404 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(answer?.(body) ?? { error: "not found" }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
