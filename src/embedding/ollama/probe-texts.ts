/**
 * Two short texts that the embedder sends together to load the model and check it: the answer shows the dimensions, and
 * that the embeddings are neither zero nor all equal. The same texts also decide whether a text or the model is to blame
 * for a failure.
 */
export const PROBE_TEXTS = ["a canary sings", "interest rates rose again in march"] as const;

/**
 * Comes first in every batch of documents and in every batch with several texts. Its embedding has to match the one that
 * the model returned when it became ready. A mismatch reveals a replaced model, an upgraded engine (ollama/ollama#14449) or
 * embeddings in the wrong order (ollama/ollama#6262) before the service stores anything. The cost is one short text for up
 * to 32.
 */
export const [CANARY] = PROBE_TEXTS;
