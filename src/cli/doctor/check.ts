/** `warning`: it works, but perhaps not as intended. `problem`: something that is configured does not work. */
export type CheckStatus = "ok" | "warning" | "problem";

/** The result of one check. */
export interface Check {
  /** Short, stable name for programs, such as `pgvector`. */
  readonly name: string;
  readonly status: CheckStatus;
  /** The finding, as a sentence. */
  readonly detail: string;
  /** How to fix it. Absent if the status is `ok`. */
  readonly remedy?: string;
}

/** Counts of a domain. Expired memories are excluded. */
export interface DomainReport {
  readonly name: string;
  /** Model, dimensions and version of the embeddings. Null until a memory has been embedded. */
  readonly model: string | null;
  readonly dimensions: number | null;
  readonly embeddingVersion: number | null;
  readonly memories: number;
  /** Memories that wait for their embedding. Only full-text search finds them. */
  readonly pending: number;
  /** Memories that the model could not embed. Only full-text search finds them. */
  readonly failed: number;
  /** Memories with an older embedding version, which wait to be re-embedded. Only full-text search finds them. */
  readonly olderVersions: number;
}

/** The report of `doctor`. `--json` prints it unchanged. */
export interface Report {
  readonly checks: readonly Check[];
  /** Empty if the domains could not be read; a check gives the reason. */
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
