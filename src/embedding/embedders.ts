import type { Embedder } from "./embedder.ts";

/** What a domain asks for beside the server's default; undefined: whatever that is. */
export interface ModelChoice {
  readonly embeddingModel: string | undefined;
  /** Undefined: the model's own. */
  readonly requestedDimensions: number | undefined;
}

/**
 * The embedders of a server: the usual one, and one for each other choice of a domain, made when it is first needed. Each
 * schedules its own batches; the model server decides which of them it works on.
 */
export interface Embedders extends Pick<Embedder, "onAvailable" | "close"> {
  of(choice: ModelChoice): Embedder;
  /** Closes the embedder of a choice that no domain has. */
  forget(choice: ModelChoice): void;
  /** Whether at least one can be used. */
  status(): { readonly available: boolean };
}

/** @param make called once for each choice that is not the usual one; what it returns is closed with the rest. */
export function createEmbedders(usual: Embedder, make: (choice: ModelChoice) => Embedder): Embedders {
  const others = new Map<string, Embedder>();
  const listeners = new Set<() => void>();
  const tell = () => {
    for (const listener of [...listeners]) listener();
  };
  const unsubscribe = usual.onAvailable(tell);

  return {
    of(choice) {
      if (isUsual(choice)) return usual;
      const key = keyOf(choice);
      let embedder = others.get(key);
      if (embedder === undefined) {
        embedder = make(choice);
        embedder.onAvailable(tell);
        others.set(key, embedder);
      }
      return embedder;
    },

    forget(choice) {
      const key = keyOf(choice);
      const embedder = others.get(key);
      others.delete(key);
      void embedder?.close();
    },

    status: () => ({
      available: [usual, ...others.values()].some((embedder) => embedder.status().available),
    }),

    onAvailable(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },

    async close() {
      unsubscribe();
      listeners.clear();
      await Promise.all([...others.values()].map((embedder) => embedder.close()));
      await usual.close();
    },
  };
}

/** True for a domain without a choice of its own. */
export function isUsual({ embeddingModel, requestedDimensions }: ModelChoice): boolean {
  return embeddingModel === undefined && requestedDimensions === undefined;
}

/** One string for each choice. */
export function keyOf({ embeddingModel, requestedDimensions }: ModelChoice): string {
  return JSON.stringify([embeddingModel, requestedDimensions]);
}
