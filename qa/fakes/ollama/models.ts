import { createHash } from "node:crypto";

/** A model that the fake can serve. */
export interface FakeModel {
  /** Name with tag, such as `nomic-embed-text:latest`. */
  readonly name: string;
  /** Architecture, such as `bert`, `nomic-bert` or `llama`. */
  readonly family: string;
  /** Dimensions of its embeddings; for a chat model, its hidden size. */
  readonly dimensions: number;
  /** Context length in tokens. */
  readonly contextLength: number;
  /** False for a chat model. Defaults to true. */
  readonly embeds?: boolean;
  /** Whether every text needs a task prefix (vectors are noisy without one). Defaults to false. */
  readonly wantsPrefix?: boolean;
  /** Whether its vocabulary lacks CJK characters. Defaults to false. */
  readonly cjkUnknown?: boolean;
  /** Length of the vectors that `/api/embeddings` returns. Defaults to 1, unit length. */
  readonly legacyScale?: number;
  /** In bytes. Defaults to 45960996. */
  readonly size?: number;
  /** 64 hexadecimal digits. Defaults to a hash of the name. */
  readonly digest?: string;
  /** `num_ctx` in the model's parameters, as `/api/show` returns it. Defaults to none. */
  readonly defaultContext?: number;
  readonly parameterSize?: string;
}

/** The models that are installed by default. */
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

/** Whether Ollama accepts this as a model name. */
export function isModelName(name: string): boolean {
  return /^[A-Za-z0-9_.:/-]+$/.test(name);
}

/** Returns the name with its tag: `tiny` -> `tiny:latest`. */
export function fullName(name: string): string {
  return /:[^/]*$/.test(name) ? name : `${name}:latest`;
}

/** The installed models by name, case-insensitive; a missing tag means `latest`. */
export class ModelStore {
  readonly #installed = new Map<string, InstalledModel>();
  readonly #known = new Map<string, FakeModel>();

  /** `known` are the models that a pull installs with their real properties. */
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

  /** Installs a model; a name selects a known model, or else one of 384 dimensions. */
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

  /** Returns the model that a pull of `name` would install. */
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

  /** Deletes a model like `ollama rm`. Returns whether it was installed. */
  remove(name: string): boolean {
    return this.#installed.delete(keyOf(name));
  }
}

function keyOf(name: string): string {
  return fullName(name).toLowerCase();
}
