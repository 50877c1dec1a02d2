import {
  type Embedder,
  type EmbeddingRole,
  type EmbeddingSpace,
  EmbedError,
  type EmbedFailureKind,
} from "../../../src/memory/model/embedder.ts";
import { at } from "../drafts.ts";

/** An embedder that a test controls. */
export interface ScriptedEmbedder extends Embedder {
  /** The texts of every call, in order. */
  readonly calls: { readonly texts: readonly string[]; readonly role: EmbeddingRole }[];
  /** Fails every later call that contains a text for which this returns a kind; undefined for none. */
  failing: ((text: string) => EmbedFailureKind | undefined) | undefined;
  /** Delays all later calls until the returned function is called. */
  hold(): () => void;
  /** Makes the embedder unavailable. Calls fail, and the space stays known. */
  leave(): void;
  /** Makes the embedder available, possibly with another model, and notifies listeners. */
  arrive(space?: EmbeddingSpace): void;
}

export const scriptedSpace: EmbeddingSpace = {
  model: "scripted:latest",
  digest: "1",
  dimensions: 3,
  profile: "plain/1",
};

/**
 * Creates an embedder that embeds a text at the angle in it: "apple @30" at 30 degrees, and a text without one at 90.
 *
 * @param options `known: false` creates an embedder that has not been available yet.
 */
export function createScriptedEmbedder(
  options: { readonly known?: boolean; readonly maxChunkLength?: number } = {},
): ScriptedEmbedder {
  const listeners = new Set<() => void>();
  let space = options.known === false ? undefined : scriptedSpace;
  let available = space !== undefined;
  let gate = Promise.resolve();

  const embedder: ScriptedEmbedder = {
    calls: [],
    failing: undefined,
    maxChunkLength: options.maxChunkLength ?? 1_000,

    async embed(texts, role, signal) {
      embedder.calls.push({ texts: [...texts], role });
      await Promise.race([gate, aborted(signal)]);
      if (!available || space === undefined)
        throw new EmbedError("unavailable", "the embedder is unavailable");
      for (const text of texts) {
        const kind = embedder.failing?.(text);
        if (kind !== undefined) throw new EmbedError(kind, `the model says ${kind}`);
      }
      const { dimensions } = space;
      return texts.map((text) => {
        const vector = new Float32Array(dimensions);
        vector.set(at(Number(/@(-?\d+)/.exec(text)?.[1] ?? 90)));
        return vector;
      });
    },

    space: () => space,
    status: () => ({ available, reason: available ? "" : "unavailable" }),
    onAvailable(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {},

    hold() {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      return resolve;
    },
    leave() {
      available = false;
    },
    arrive(next = scriptedSpace) {
      space = next;
      available = true;
      for (const listener of listeners) listener();
    },
  };
  return embedder;
}

function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
