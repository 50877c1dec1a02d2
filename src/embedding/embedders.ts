import {
  type Embedder,
  type Embedders,
  type ModelChoice,
  usesDefaultModel,
} from "../memory/model/embedder.ts";

/**
 * Creates the embedders of a server. Each schedules its own batches; the model server decides which of them it processes.
 *
 * @param defaultEmbedder The embedder of the server's default model.
 * @param createEmbedder Called once for each other choice. Closing the embedders closes what it returns.
 */
export function createEmbedders(
  defaultEmbedder: Embedder,
  createEmbedder: (choice: ModelChoice) => Embedder,
): Embedders {
  const others = new Map<string, Embedder>();
  /** Choices that no domain had in the last call of keepOnly. A domain with one of them may just be being created. */
  let unused: ReadonlySet<string> = new Set();
  const listeners = new Set<() => void>();
  const notify = () => {
    for (const listener of [...listeners]) listener();
  };
  const unsubscribe = defaultEmbedder.onAvailable(notify);

  function close(key: string): void {
    void others.get(key)?.close();
    others.delete(key);
  }

  return {
    of(choice) {
      if (usesDefaultModel(choice)) return defaultEmbedder;
      const key = keyOf(choice);
      let embedder = others.get(key);
      if (embedder === undefined) {
        embedder = createEmbedder(choice);
        embedder.onAvailable(notify);
        others.set(key, embedder);
      }
      return embedder;
    },

    discard(choice) {
      close(keyOf(choice));
    },

    keepOnly(choices) {
      const used = new Set(choices.map(keyOf));
      const candidates = [...others.keys()].filter((key) => !used.has(key));
      for (const key of candidates) if (unused.has(key)) close(key);
      unused = new Set(candidates);
    },

    status: () => ({
      available: [defaultEmbedder, ...others.values()].some((embedder) => embedder.status().available),
    }),

    onAvailable(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },

    async close() {
      unsubscribe();
      listeners.clear();
      await Promise.all([...others.values()].map((embedder) => embedder.close()));
      await defaultEmbedder.close();
    },
  };
}

function keyOf({ embeddingModel, requestedDimensions }: ModelChoice): string {
  return JSON.stringify([embeddingModel, requestedDimensions]);
}
