import { createHash } from "node:crypto";

/** A model that the fake can have. */
export interface FakeModel {
  /** With its tag: `nomic-embed-text:latest`. */
  readonly name: string;
  /** Architecture: `bert`, `nomic-bert`, `llama`. */
  readonly family: string;
  /** Dimensions of its embeddings; of a chat model its hidden size. */
  readonly dimensions: number;
  /** Context length in tokens. */
  readonly contextLength: number;
  /** False for a chat model. Default true. */
  readonly embeds?: boolean;
  /** Whether every text wants a task prefix (vectors are noisy without one). Default false. */
  readonly wantsPrefix?: boolean;
  /** Whether its vocabulary lacks CJK characters. Default false. */
  readonly cjkUnknown?: boolean;
  /** Length of what `/api/embeddings` answers. Default 1: unit length. */
  readonly legacyScale?: number;
  /** Bytes. Default 45960996. */
  readonly size?: number;
  /** 64 hexadecimal digits. Default: made from the name. */
  readonly digest?: string;
  /** `num_ctx` in the model's parameters, as `/api/show` tells it. Default: none. */
  readonly defaultContext?: number;
  readonly parameterSize?: string;
}

/** The models that are installed unless a test says otherwise. */
export const defaultModels: readonly FakeModel[] = [
  {
    name: "nomic-embed-text:latest",
    family: "nomic-bert",
    dimensions: 768,
    contextLength: 2048,
    wantsPrefix: true,
    cjkUnknown: true,
    legacyScale: 21.7,
    size: 274302450,
    digest: "0a109f422b47e3a30ba2b10eca18548e944e8a23073ee3f3e947efcf3c45e59f",
    defaultContext: 8192,
    parameterSize: "137M",
  },
  {
    name: "all-minilm:latest",
    family: "bert",
    dimensions: 384,
    contextLength: 256,
    size: 45960996,
    parameterSize: "23M",
  },
  {
    name: "mxbai-embed-large:latest",
    family: "bert",
    dimensions: 1024,
    contextLength: 512,
    size: 669615493,
    parameterSize: "334M",
  },
  {
    name: "tiny:latest",
    family: "bert",
    dimensions: 32,
    contextLength: 64,
    size: 153632,
    parameterSize: "0.1M",
  },
  {
    name: "llama3:latest",
    family: "llama",
    dimensions: 4096,
    contextLength: 8192,
    embeds: false,
    size: 4661224676,
    parameterSize: "8.0B",
  },
];

/** An installed model. */
export interface InstalledModel extends FakeModel {
  readonly digest: string;
  readonly size: number;
  readonly modifiedAtMs: number;
}

/** Whether Ollama would take this for a model's name. */
export function isModelName(name: string): boolean {
  return /^[A-Za-z0-9_.:/-]+$/.test(name);
}

/** The name with its tag: `tiny` -> `tiny:latest`. */
export function fullName(name: string): string {
  return /:[^/]*$/.test(name) ? name : `${name}:latest`;
}

/** The installed models, found by name without regard to case; no tag means `latest`. */
export class ModelStore {
  readonly #installed = new Map<string, InstalledModel>();
  readonly #known = new Map<string, FakeModel>();

  /** `known` are the models that a pull brings with their real properties. */
  constructor(known: readonly FakeModel[]) {
    for (const model of known) this.#known.set(keyOf(model.name), model);
  }

  find(name: string): InstalledModel | undefined {
    return this.#installed.get(keyOf(name));
  }

  /** Newest first. */
  list(): InstalledModel[] {
    return [...this.#installed.values()].sort((a, b) => b.modifiedAtMs - a.modifiedAtMs);
  }

  /** Installs a model; by name alone, one that is known or else some model of 384 dimensions. */
  add(nameOrModel: string | FakeModel, modifiedAtMs = Date.UTC(2026, 0, 1)): InstalledModel {
    const model = typeof nameOrModel === "string" ? this.describe(nameOrModel) : nameOrModel;
    const installed = {
      ...model,
      name: fullName(model.name),
      size: model.size ?? 45960996,
      digest: model.digest ?? createHash("sha256").update(model.name).digest("hex"),
      modifiedAtMs,
    };
    this.#known.set(keyOf(model.name), model);
    this.#installed.set(keyOf(model.name), installed);
    return installed;
  }

  /** What a pull of `name` would bring. */
  describe(name: string): FakeModel {
    return (
      this.#known.get(keyOf(name)) ?? {
        name: fullName(name),
        family: "bert",
        dimensions: 384,
        contextLength: 512,
      }
    );
  }

  /** Deletes a model, as `ollama rm`. Returns whether it was there. */
  remove(name: string): boolean {
    return this.#installed.delete(keyOf(name));
  }
}

function keyOf(name: string): string {
  return fullName(name).toLowerCase();
}
