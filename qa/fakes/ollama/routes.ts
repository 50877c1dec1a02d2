import { handleOpenAiModels, handlePs, handleShow, handleTags } from "./catalogue.ts";
import { handleEmbed, handleLegacyEmbeddings, handleOpenAiEmbeddings, openAiError } from "./embed.ts";
import { handlePull } from "./pull.ts";
import { jsonReply, Refusal, type Reply, textReply } from "./reply.ts";
import type { Call } from "./world.ts";

type Handler = (call: Call) => Reply | Promise<Reply>;

const handleRoot: Handler = () => textReply(200, "Ollama is running", "text/plain; charset=utf-8");
const handleVersion: Handler = ({ world }) => jsonReply({ version: world.version() });

const routes: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
  "/": { GET: handleRoot, HEAD: handleRoot },
  "/api/version": { GET: handleVersion, HEAD: handleVersion },
  "/api/tags": { GET: handleTags, HEAD: handleTags },
  "/api/show": { POST: handleShow },
  "/api/ps": { GET: handlePs },
  "/api/pull": { POST: handlePull },
  "/api/embed": { POST: handleEmbed },
  "/api/embeddings": { POST: handleLegacyEmbeddings },
  "/v1/embeddings": { POST: handleOpenAiEmbeddings },
  "/v1/models": { GET: handleOpenAiModels },
};

/** Handles a request. Rejects with the signal's reason if the client leaves in the meantime. */
export async function answer(method: string, call: Call): Promise<Reply> {
  const route = routes[call.path];
  if (route === undefined) return textReply(404, "404 page not found");
  const handler = route[method];
  if (handler === undefined) return textReply(405, "405 method not allowed");
  try {
    return await handler(call);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return call.path.startsWith("/v1/")
      ? openAiError(error)
      : jsonReply({ error: error.error }, error.status);
  }
}
