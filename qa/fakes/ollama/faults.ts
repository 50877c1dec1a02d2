/** Which requests a fault meets. All that is given must fit. */
export interface FaultMatch {
  /** Exact path: `/api/embed`. Default: the paths where the kind of fault makes sense. */
  readonly path?: string;
  /** Model as named in the request, without regard to a missing `:latest`. */
  readonly model?: string;
  /** Met if any text of the request contains this. */
  readonly textIncludes?: string;
  /** Only from the nth fitting request on, counted from 1. */
  readonly nth?: number;
}

/** What goes wrong. */
export type FaultKind =
  /** The server dies: its sockets are reset and connections are refused until `up()`. */
  | { readonly kind: "down" }
  /** The whole answer is late. */
  | { readonly kind: "slow"; readonly ms: number }
  /** The model has been deleted. */
  | { readonly kind: "notFound" }
  | { readonly kind: "busy" }
  /** The engine crashes when it reaches text `at` (default 0); the model is unloaded. */
  | { readonly kind: "eof"; readonly at?: number }
  /** Default: 500, the engine was killed. */
  | { readonly kind: "serverError"; readonly status?: number; readonly text?: string }
  /** The engine makes NaN for the texts containing `match.textIncludes`, else for text `at` (default 0). */
  | { readonly kind: "nan"; readonly at?: number }
  | { readonly kind: "nan400" }
  /** Makes `nan` of every request that has a text containing this, until cleared. */
  | { readonly kind: "poison"; readonly textIncludes: string }
  | { readonly kind: "zeros" }
  | { readonly kind: "nulls" }
  | { readonly kind: "strings" }
  /** `delta` vectors too many or (negative) too few, default -1; or a `form` of its own. */
  | {
      readonly kind: "wrongCount";
      readonly delta?: number;
      readonly form?: "empty" | "nullVector" | "missing" | "legacyKey";
    }
  /** All vectors, or only that of text `at`, have this length. */
  | { readonly kind: "wrongDim"; readonly dims: number; readonly at?: number }
  /** From now on vectors have this length, whatever the model says of itself. */
  | { readonly kind: "dimDrift"; readonly dims: number }
  /** The first and the last vector are exchanged. */
  | { readonly kind: "swap" }
  /** The same vector for every text. */
  | { readonly kind: "constant" }
  | { readonly kind: "notUnit"; readonly scale: number }
  /** From now on all vectors are turned by `angle` radians and the version is a newer one. */
  | { readonly kind: "drift"; readonly angle: number }
  /** From now on all words with an upper-case letter are the same token. */
  | { readonly kind: "caseBug" }
  | {
      readonly kind: "garbage";
      readonly form: "html" | "empty" | "truncated" | "nanLiteral" | "huge" | "errorInOk";
    }
  /** `text`: 200 and text/plain; `proxy`: 502 and an HTML page. Default text. */
  | { readonly kind: "wrongType"; readonly form?: "text" | "proxy" }
  /** Silence: before anything, after the headers, or after half of the body. */
  | { readonly kind: "hang"; readonly phase: "answer" | "headers" | "body" }
  | { readonly kind: "drip"; readonly bytesPerSec: number }
  /** The connection is reset (RST) before the headers or in the middle of the body. */
  | { readonly kind: "reset"; readonly phase: "headers" | "body" }
  /** The same with FIN. */
  | { readonly kind: "close"; readonly phase: "headers" | "body" }
  /** The connection is closed after a complete answer that did not announce it. */
  | { readonly kind: "staleKeepAlive" }
  /** 307 to `location`, default a host that does not exist. */
  | { readonly kind: "redirect"; readonly location?: string };

/** A fault to come: what, for whom, how often (default once; a change "from now on": until cleared). */
export type Fault = FaultKind & { readonly match?: FaultMatch; readonly times?: number };

/** A fault that waits in the queue or is used up. */
export interface EnqueuedFault {
  /** How many requests it has met. */
  readonly hits: number;
  remove(): void;
}

/** What faults look at. */
export interface FaultTarget {
  readonly path: string;
  readonly model: string | undefined;
  readonly texts: readonly string[];
}

/** How a test makes the fake misbehave. */
export interface Faults {
  /** Adds a fault. A request gets the first that fits it; changes "from now on" apply beside it. */
  enqueue(fault: Fault): EnqueuedFault;
  /** Everything is well again. */
  clear(): void;
  /** Faults that have not been used up, without those that last until cleared. */
  readonly pending: number;
}

/** Changes of the world rather than mishaps of one request. */
export type LastingFault = Extract<Fault, { kind: "drift" | "caseBug" | "dimDrift" }>;

interface Entry {
  readonly fault: Fault;
  left: number;
  seen: number;
  hits: number;
}

const embeddingPaths = ["/api/embed", "/api/embeddings", "/v1/embeddings"];
const modelPaths = [...embeddingPaths, "/api/show"];
const everywhere: ReadonlySet<Fault["kind"]> = new Set([
  "down",
  "slow",
  "serverError",
  "garbage",
  "wrongType",
  "hang",
  "drip",
  "reset",
  "close",
  "staleKeepAlive",
  "redirect",
]);

/** The queue of faults. */
export class FaultQueue implements Faults {
  #entries: Entry[] = [];

  enqueue(fault: Fault): EnqueuedFault {
    const entry: Entry = { fault, left: fault.times ?? (lasts(fault) ? Infinity : 1), seen: 0, hits: 0 };
    this.#entries.push(entry);
    return {
      get hits() {
        return entry.hits;
      },
      remove: () => {
        this.#entries = this.#entries.filter((other) => other !== entry);
      },
    };
  }

  clear(): void {
    this.#entries = [];
  }

  get pending(): number {
    return this.#entries.filter((entry) => Number.isFinite(entry.left)).length;
  }

  /** The mishap that meets this request, if any; it is used up by that. */
  take(target: FaultTarget): Fault | undefined {
    return this.#use(target, (fault) => !isLasting(fault))[0];
  }

  /** All changes in force for this request. */
  lasting(target: FaultTarget): LastingFault[] {
    return this.#use(target, isLasting).filter(isLasting);
  }

  /** Whether the vectors have drifted, which goes with a new version of the server. */
  get drifted(): boolean {
    return this.#entries.some(({ fault }) => fault.kind === "drift");
  }

  #use(target: FaultTarget, wanted: (fault: Fault) => boolean): Fault[] {
    const used: Fault[] = [];
    for (const entry of this.#entries) {
      if (!wanted(entry.fault) || !fits(entry.fault, target)) continue;
      entry.seen += 1;
      if (entry.seen < (entry.fault.match?.nth ?? 1)) continue;
      entry.left -= 1;
      entry.hits += 1;
      used.push(entry.fault);
      if (!isLasting(entry.fault)) break;
    }
    this.#entries = this.#entries.filter((entry) => entry.left > 0);
    return used;
  }
}

function isLasting(fault: Fault): fault is LastingFault {
  return fault.kind === "drift" || fault.kind === "caseBug" || fault.kind === "dimDrift";
}

function lasts(fault: Fault): boolean {
  return isLasting(fault) || fault.kind === "poison";
}

function fits(fault: Fault, target: FaultTarget): boolean {
  const { path, model, textIncludes } = fault.match ?? {};
  if (path !== undefined ? target.path !== path : !usualPath(fault.kind, target.path)) return false;
  if (model !== undefined && bareName(model) !== bareName(target.model ?? "")) return false;
  if (textIncludes !== undefined && !target.texts.some((text) => text.includes(textIncludes))) return false;
  return fault.kind !== "poison" || target.texts.some((text) => text.includes(fault.textIncludes));
}

function usualPath(kind: Fault["kind"], path: string): boolean {
  if (everywhere.has(kind)) return true;
  return (kind === "notFound" ? modelPaths : embeddingPaths).includes(path);
}

function bareName(name: string): string {
  return name.toLowerCase().replace(/:latest$/, "");
}
