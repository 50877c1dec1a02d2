import type { Progress } from "../../cli/output/progress.ts";
import type { OnConflict } from "../import/choose-action.ts";

export interface ImportLegacyOptions {
  readonly server?: string;
  readonly domain?: string;
  readonly dryRun?: boolean;
  readonly onConflict?: OnConflict;
  readonly reuseVectors?: boolean;
  readonly verify?: boolean;
  readonly rollback?: string;
  readonly report?: string;
  readonly wait?: boolean;
  readonly json?: boolean;
}

/** The options of the command, with the progress to show and the signal that interrupts it. */
export interface ImportLegacyCall extends ImportLegacyOptions {
  readonly progress: Progress;
  readonly signal: AbortSignal;
}
