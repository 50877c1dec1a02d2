/** The requests that a fault affects. All given conditions must match. */
export interface FaultMatch {
  /** Exact path, such as `/api/embed`. Defaults to the paths that the kind of fault applies to. */
  readonly path?: string;
  /** Model as named in the request; `:latest` is optional. */
  readonly model?: string;
  /** Matches if any text of the request contains this. */
  readonly textIncludes?: string;
  /** Matches from the nth matching request on, counted from 1. */
  readonly nth?: number;
}

/** A kind of fault. */
export type FaultKind =
  /** The server stops: its sockets are reset and connections are refused until `up()`. */
  | { readonly kind: "down" }
  /** Delays the whole response. */
  | { readonly kind: "slow"; readonly ms: number }
  /** The model has been deleted. */
  | { readonly kind: "notFound" }
  | { readonly kind: "busy" }
  /** The engine crashes when it reaches text `at` (default 0); the model is unloaded. */
  | { readonly kind: "eof"; readonly at?: number }
  /** Defaults to 500 for a killed engine. */
  | { readonly kind: "serverError"; readonly status?: number; readonly text?: string }
  /** The engine computes NaN for texts that contain `match.textIncludes`, or else for text `at` (defaults to 0). */
  | { readonly kind: "nan"; readonly at?: number }
  | { readonly kind: "nan400" }
  /** Causes `nan` for every request with a text that contains this, until cleared. */
  | { readonly kind: "poison"; readonly textIncludes: string }
  | { readonly kind: "zeros" }
  | { readonly kind: "nulls" }
  | { readonly kind: "strings" }
  /** `delta` additional or (negative) missing vectors, defaults to -1; or another `form`. */
  | {
      readonly kind: "wrongCount";
      readonly delta?: number;
      readonly form?: "empty" | "nullVector" | "missing" | "legacyKey";
    }
  /** All vectors, or only that of text `at`, have this length. */
  | { readonly kind: "wrongDim"; readonly dims: number; readonly at?: number }
  /** All later vectors have this length, whatever the model's metadata says. */
  | { readonly kind: "dimDrift"; readonly dims: number }
  /** Swaps the first and the last vector. */
  | { readonly kind: "swap" }
  /** Returns the same vector for every text. */
  | { readonly kind: "constant" }
  | { readonly kind: "notUnit"; readonly scale: number }
  /** Rotates all later vectors by `angle` radians and reports a newer version. */
  | { readonly kind: "drift"; readonly angle: number }
  /** Treats all later words with an upper-case letter as the same token. */
  | { readonly kind: "caseBug" }
  | {
      readonly kind: "garbage";
      readonly form: "html" | "empty" | "truncated" | "nanLiteral" | "huge" | "errorInOk";
    }
  /** `text`: 200 and text/plain; `proxy`: 502 and an HTML page. Defaults to `text`. */
  | { readonly kind: "wrongType"; readonly form?: "text" | "proxy" }
  /** Stops sending: before the headers, after them, or after half of the body. */
  | { readonly kind: "hang"; readonly phase: "answer" | "headers" | "body" }
  | { readonly kind: "drip"; readonly bytesPerSec: number }
  /** Resets the connection (RST) before the headers or in the middle of the body. */
  | { readonly kind: "reset"; readonly phase: "headers" | "body" }
  /** Closes the connection (FIN) at the same points. */
  | { readonly kind: "close"; readonly phase: "headers" | "body" }
  /** Closes the connection after a complete response that did not announce it. */
  | { readonly kind: "staleKeepAlive" }
  /** 307 to `location`, which defaults to a host that does not exist. */
  | { readonly kind: "redirect"; readonly location?: string };

/** A fault to add: its kind, match and number of times (defaults to once; lasting changes apply until cleared). */
export type Fault = FaultKind & { readonly match?: FaultMatch; readonly times?: number };

/** A fault in the queue, pending or used up. */
export interface EnqueuedFault {
  /** Number of requests it has affected. */
  readonly hits: number;
  remove(): void;
}

/** The request properties that faults match. */
export interface FaultTarget {
  readonly path: string;
  readonly model: string | undefined;
  readonly texts: readonly string[];
}

/** Controls the faults of the fake. */
export interface Faults {
  /** Adds a fault. A request gets the first match; lasting changes apply in addition. */
  enqueue(fault: Fault): EnqueuedFault;
  /** Removes all faults. */
  clear(): void;
  /** Faults that are not used up, without those that last until cleared. */
  readonly pending: number;
}

/** Lasting changes, rather than faults of one request. */
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

  /** Returns the fault for this request, if any, and uses it up. */
  take(target: FaultTarget): Fault | undefined {
    return this.#use(target, (fault) => !isLasting(fault))[0];
  }

  /** Returns all lasting changes that apply to this request. */
  lasting(target: FaultTarget): LastingFault[] {
    return this.#use(target, isLasting).filter(isLasting);
  }

  /** Whether the vectors have drifted, which also changes the server's version. */
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
