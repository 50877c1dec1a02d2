import { type EmbeddingSpace, EmbedError } from "../../memory/model/embedder.ts";
import type { Clock } from "../clock.ts";
import { withRetries } from "../retry.ts";
import { KEEP_ALIVE_SECONDS, type OllamaClient } from "./ollama-client.ts";
import { OllamaError } from "./ollama-errors.ts";
import { CANARY, PROBE_TEXTS } from "./probe-texts.ts";
import type { ModelWatch } from "./watch-model.ts";

/** Time-out for a call that may have to load the model. */
export const COLD_TIMEOUT_MS = 120_000;

const MS_PER_CHARACTER = 1;

/** `fetch` itself times out after 300 s without headers. */
const MAX_TIMEOUT_MS = 280_000;

/**
 * Embeds one batch of prepared texts in a space, with retries. `withCanary` adds the canary, which reveals a replaced model.
 *
 * @throws EmbedError; the signal's reason if it aborts.
 */
export type EmbedBatch = (
  texts: readonly string[],
  space: EmbeddingSpace,
  withCanary: boolean,
) => Promise<Float32Array[]>;

export function createBatchEmbedder(options: {
  readonly client: OllamaClient;
  readonly watch: ModelWatch;
  readonly clock: Clock;
  /** Returns a number from 0 to below 1 for the jitter of retries. Defaults to Math.random. */
  readonly random?: () => number;
  /** Time-out for a call to a loaded model, to which each character adds one millisecond. */
  readonly warmTimeoutMs: number;
  readonly signal: AbortSignal;
}): EmbedBatch {
  const { client, watch, clock, warmTimeoutMs, signal } = options;

  function loadedTimeoutMs(): number {
    const loaded = clock.now() - watch.answeredAt < KEEP_ALIVE_SECONDS * 1_000;
    return loaded ? warmTimeoutMs : COLD_TIMEOUT_MS;
  }

  async function sendCounted(
    texts: readonly string[],
    timeoutMs: number,
    { dimensions, probe }: EmbeddingSpace,
  ): Promise<Float32Array[]> {
    const first = texts[0] === CANARY ? probe : undefined;
    const embeddings = await client.embed(texts, { timeoutMs, dimensions, first, signal });
    watch.recordAnswer();
    return embeddings;
  }

  return async (texts, space, withCanary) => {
    const length = texts.reduce((sum, text) => sum + text.length, 0);
    let stale = false;
    try {
      return await withRetries(
        async () => {
          try {
            const timeoutMs = Math.min(MAX_TIMEOUT_MS, loadedTimeoutMs() + length * MS_PER_CHARACTER);
            if (!withCanary) return await sendCounted(texts, timeoutMs, space);
            const embeddings = await sendCounted([CANARY, ...texts], timeoutMs, space);
            return embeddings.slice(1);
          } catch (error) {
            if (!(error instanceof OllamaError)) throw error;
            if (error.retry === "now" && !stale) stale = true;
            else watch.recordFailure(error);
            throw error;
          }
        },
        { ...options, mayRetry: () => watch.phase === "ready" },
      );
    } catch (error) {
      if (!(error instanceof OllamaError)) throw error;
      const unclear = error.suspect || (error.kind === "rejected" && texts.length === 1);
      if (!unclear) throw error;
      // A harmless text shows whether the text or the model is the cause.
      try {
        await sendCounted(PROBE_TEXTS, loadedTimeoutMs(), space);
      } catch (second) {
        if (!(second instanceof OllamaError)) throw second;
        watch.recordBroken(second);
        throw new EmbedError("unavailable", second.message, { cause: error });
      }
      throw new EmbedError("rejected", error.message, { cause: error });
    }
  };
}
