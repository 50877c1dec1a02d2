import type { WireValue } from "../wire-values.ts";

/** Messages between the main thread and the worker of the embedded engine. */

/** Value of the worker's `workerData`. */
export interface EmbeddedWorkerData {
  /** Directory of the cluster. Undefined keeps all data in memory. */
  readonly directory?: string | undefined;
  /** Tar archive of a cluster to load. Only for data in memory. */
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

/** Properties of an error of the server. A message between threads would lose its prototype. */
export interface EmbeddedFailure {
  readonly message: string;
  readonly code?: string | undefined;
  readonly severity?: string | undefined;
  readonly constraint?: string | undefined;
  readonly detail?: string | undefined;
}

/** Rows in text form. The main thread parses them, because the worker is the busier thread. */
export interface TextRows {
  readonly columns: ReadonlyArray<{ readonly name: string; readonly oid: number }>;
  readonly rows: Array<Array<string | null>>;
}

/** Result of a command: rows, the last command tag, a tar archive, or nothing. */
export type EmbeddedValue = TextRows | string | ArrayBuffer | undefined;

export type EmbeddedResponse =
  | { readonly id: number; readonly value: EmbeddedValue }
  | { readonly id: number; readonly failure: EmbeddedFailure }
  /** Sent once, when the worker accepts commands. */
  | { readonly ready: true }
  /** Sent last by a worker that cannot continue. */
  | { readonly broken: EmbeddedFailure };
