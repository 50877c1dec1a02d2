// Runs the fake as a separate server, so that you can try semantic search without a model:
//   FAKE_OLLAMA_PORT    port on 127.0.0.1; defaults to 11434
//   FAKE_OLLAMA_MODELS  installed models, separated by commas; defaults to all known ones
import { startFakeOllama } from "./index.ts";
import { standInModels } from "./stand-in.ts";

const portText = process.env.FAKE_OLLAMA_PORT || "11434";
const port = Number(portText);
if (!Number.isInteger(port) || port < 0 || port > 65_535) {
  console.error(`FAKE_OLLAMA_PORT must be a port number, is ${JSON.stringify(portText)}`);
  process.exit(1);
}
const names = process.env.FAKE_OLLAMA_MODELS?.split(",").map((name) => name.trim());
const fake = await startFakeOllama({
  port,
  models: standInModels,
  ...(names && { installed: names.filter((name) => name !== "") }),
}).catch((error: NodeJS.ErrnoException) => {
  if (error.code !== "EADDRINUSE") throw error;
  console.error(`port ${port} is taken, perhaps by a real Ollama: set FAKE_OLLAMA_PORT to another`);
  process.exit(1);
});
console.log(
  `${fake.url} is a fake Ollama: it makes embeddings from words and synonyms, good for trying things out, ` +
    "not for real use (Ctrl-C stops it)",
);

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    void fake.close();
  });
}
