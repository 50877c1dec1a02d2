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
  /** The same for all choices that were not among those of this call and the one before. */
  keepOnly(choices: readonly ModelChoice[]): void;
  /** Whether at least one can be used. */
  status(): { readonly available: boolean };
}

/** @param make called once for each choice that is not the usual one; what it returns is closed with the rest. */
export function createEmbedders(usual: Embedder, make: (choice: ModelChoice) => Embedder): Embedders {
  const others = new Map<string, Embedder>();
  /** Choices that no domain had at the last look: a domain of one may just be made. */
  let unused: ReadonlySet<string> = new Set();
  const listeners = new Set<() => void>();
  const tell = () => {
    for (const listener of [...listeners]) listener();
  };
  const unsubscribe = usual.onAvailable(tell);

  function close(key: string): void {
    void others.get(key)?.close();
    others.delete(key);
  }

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
      close(keyOf(choice));
    },

    keepOnly(choices) {
      const used = new Set(choices.map(keyOf));
      const left = [...others.keys()].filter((key) => !used.has(key));
      for (const key of left) if (unused.has(key)) close(key);
      unused = new Set(left);
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
