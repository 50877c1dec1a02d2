import { createHash } from "node:crypto";
import { defaultModels, type FakeModel } from "./models.ts";

/**
 * The models of the stand-alone fake. Their digests differ from those of the real weights, so that switching to a real
 * Ollama re-embeds everything. Different digests also mean different vectors.
 */
export const standInModels: readonly FakeModel[] = defaultModels.map((model) => ({
  ...model,
  digest: createHash("sha256").update(`fake ${model.name}`).digest("hex"),
}));
