import { createHash } from "node:crypto";
import { defaultModels, type FakeModel } from "./models.ts";

/**
 * The models as the fake serves them when it runs on its own: with other digests than the real weights have, so that
 * who goes over to a real Ollama has everything embedded again. Other digests mean other vectors, too.
 */
export const standInModels: readonly FakeModel[] = defaultModels.map((model) => ({
  ...model,
  digest: createHash("sha256").update(`fake ${model.name}`).digest("hex"),
}));
