export interface AdoptCommandOptions {
  readonly from?: string;
  readonly server?: string;
  readonly map?: readonly string[];
  readonly skip?: readonly string[];
  readonly normalise?: boolean;
  readonly despitePrefixes?: boolean;
  readonly onConflict?: "skip" | "replace";
  readonly yes?: boolean;
  readonly json?: boolean;
}

/** The parsed options of the command, with the signal that interrupts it. */
export interface AdoptCall extends Omit<AdoptCommandOptions, "map"> {
  readonly map: ReadonlyMap<string, string>;
  readonly signal: AbortSignal;
}
