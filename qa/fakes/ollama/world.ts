import type { Clock } from "./clock.ts";
import type { EraTraits } from "./eras.ts";
import type { Fault, LastingFault } from "./faults.ts";
import type { InstalledModel, ModelStore } from "./models.ts";
import type { Runners } from "./runners.ts";
import type { FakeEmbeddingSpace } from "./vectors.ts";

/** The state that the handlers share. */
export interface World {
  readonly clock: Clock;
  readonly era: EraTraits;
  readonly models: ModelStore;
  readonly runners: Runners;
  readonly keepAliveMs: number;
  readonly perTextMs: number;
  readonly pullMs: number;
  version(): string;
  spaceOf(model: InstalledModel): FakeEmbeddingSpace;
}

/** A request in a handler. */
export interface Call {
  readonly world: World;
  readonly path: string;
  readonly body: string;
  /** The fault that affects it, if any. */
  readonly fault: Fault | undefined;
  readonly changes: readonly LastingFault[];
  /** Aborts when the client leaves. */
  readonly signal: AbortSignal;
}
