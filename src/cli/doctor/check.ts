/** `warning`: it works, and may not do what is wanted. `problem`: something asked for does not work. */
export type CheckStatus = "ok" | "warning" | "problem";

/** One thing that was looked at. */
export interface Check {
  /** Short and always the same, for programs: `pgvector`. */
  readonly name: string;
  readonly status: CheckStatus;
  /** What was found, in words. */
  readonly detail: string;
  /** What to do about it; never with `ok`. */
  readonly remedy?: string;
}

/** What a domain holds, without expired memories. */
export interface DomainReport {
  readonly name: string;
  /** Model, dimensions and version of its embeddings; null until there has been one. */
  readonly model: string | null;
  readonly dimensions: number | null;
  readonly embeddingVersion: number | null;
  readonly memories: number;
  /** Waiting for their embedding: found by words only. */
  readonly pending: number;
  /** The model could not embed them: found by words only. */
  readonly failed: number;
  /** Embedded by an older version, to be embedded again: found by words only. */
  readonly olderVersions: number;
}

/** Everything that `doctor` tells; `--json` prints it as it is. */
export interface Report {
  readonly checks: readonly Check[];
  /** Empty where they could not be read; a check says why. */
  readonly domains: readonly DomainReport[];
}

export function ok(name: string, detail: string): Check {
  return { name, status: "ok", detail };
}

export function warning(name: string, detail: string, remedy: string): Check {
  return { name, status: "warning", detail, remedy };
}

export function problem(name: string, detail: string, remedy?: string): Check {
  return { name, status: "problem", detail, ...(remedy === undefined ? {} : { remedy }) };
}
