import type { WireValue } from "./wire-values.ts";

/** What the main thread and the worker of the embedded engine tell each other. */

/** The worker's `workerData`. */
export interface EmbeddedWorkerData {
  /** The cluster's directory; undefined keeps everything in memory. */
  readonly directory?: string | undefined;
  /** A tar archive of a cluster to begin with; only in memory. */
  readonly dataDirectory?: ArrayBuffer | undefined;
}

export type EmbeddedCommand =
  | {
      readonly kind: "query";
      readonly text: string;
      readonly name?: string | undefined;
      readonly values: readonly WireValue[];
    }
  | { readonly kind: "execute"; readonly script: string }
  | { readonly kind: "dump" }
  | { readonly kind: "ping" }
  | { readonly kind: "close" };

export interface EmbeddedRequest {
  readonly id: number;
  readonly command: EmbeddedCommand;
}

/** An error of the server, without its prototype: that does not survive the way between threads. */
export interface EmbeddedFailure {
  readonly message: string;
  readonly code?: string | undefined;
  readonly severity?: string | undefined;
  readonly constraint?: string | undefined;
  readonly detail?: string | undefined;
}

/** Rows as PostgreSQL sent them: reading them is left to the main thread, since the worker's time is scarcer. */
export interface TextRows {
  readonly columns: ReadonlyArray<{ readonly name: string; readonly oid: number }>;
  readonly rows: Array<Array<string | null>>;
}

/** By kind of command: rows, the last command tag, a tar archive, nothing. */
export type EmbeddedValue = TextRows | string | ArrayBuffer | undefined;

export type EmbeddedResponse =
  | { readonly id: number; readonly value: EmbeddedValue }
  | { readonly id: number; readonly failure: EmbeddedFailure }
  /** Said once, when statements are welcome. */
  | { readonly ready: true }
  /** The last word of a worker that cannot go on. */
  | { readonly broken: EmbeddedFailure };
