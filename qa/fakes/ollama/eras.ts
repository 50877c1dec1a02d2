/**
 * The generation of Ollama that the fake imitates: `v030` (backed by llama-server), `v024` and `v012` (own
 * engines), `v06` (errors that are objects). They differ only in status codes and texts.
 */
export type Era = "v030" | "v024" | "v012" | "v06";

/** The differences between eras. */
export interface EraTraits {
  readonly version: string;
  /** Response to an embedding request for a chat model. */
  readonly noEmbeddings: { readonly status: number; readonly error: string };
  readonly tooLong: string;
  /** Response to an engine crash in the middle of a batch. */
  readonly engineLost: { readonly status: number; readonly error: unknown };
  /** Response to a NaN from the engine; undefined: status 200 with zeros in place of the vector. */
  readonly nan: { readonly status: number; readonly error: unknown } | undefined;
  /** Whether `options.num_batch` limits the length of a text. */
  readonly batchLimit: boolean;
  /** Whether `dimensions` has an effect. */
  readonly shortens: boolean;
  /** Whether `/api/tags` includes context, dimensions and capabilities. */
  readonly richTags: boolean;
}

const engineUrl = "http://127.0.0.1:41641";
const engineCrash = (path: string) => `do embedding request: Post "${engineUrl}${path}": EOF`;
const nanText = "failed to encode response: json: unsupported value: NaN";
const noEmbeddings = "this model does not support embeddings";

/** The traits of each era. */
export const eras: Readonly<Record<Era, EraTraits>> = {
  v030: {
    version: "0.33.0",
    noEmbeddings: {
      status: 501,
      error: "This server does not support embeddings. Start it with `--embeddings`",
    },
    tooLong: "the input length exceeds the context length",
    engineLost: { status: 400, error: engineCrash("/v1/embeddings") },
    nan: undefined,
    batchLimit: true,
    shortens: true,
    richTags: true,
  },
  v024: {
    version: "0.24.0",
    noEmbeddings: { status: 501, error: noEmbeddings },
    tooLong: "the input length exceeds the context length",
    engineLost: { status: 400, error: engineCrash("/embedding") },
    nan: { status: 500, error: nanText },
    batchLimit: false,
    shortens: true,
    richTags: false,
  },
  v012: {
    version: "0.12.11",
    noEmbeddings: { status: 500, error: noEmbeddings },
    tooLong: "input exceeds maximum context length",
    engineLost: { status: 500, error: engineCrash("/embedding") },
    nan: { status: 500, error: nanText },
    batchLimit: false,
    shortens: true,
    richTags: false,
  },
  v06: {
    version: "0.6.5",
    noEmbeddings: { status: 500, error: noEmbeddings },
    tooLong: "input length exceeds maximum context length",
    engineLost: { status: 500, error: {} },
    nan: { status: 500, error: {} },
    batchLimit: false,
    shortens: false,
    richTags: false,
  },
};
