import type { IncomingHttpHeaders } from "node:http";
import type { Clock } from "./clock.ts";
import type { EraTraits } from "./eras.ts";
import type { Fault, LastingFault } from "./faults.ts";
import type { InstalledModel, ModelStore } from "./models.ts";
import type { Runners } from "./runners.ts";
import type { FakeEmbeddingSpace } from "./vectors.ts";

/** What a request was and what became of it. */
export interface RecordedRequest {
  /** When its body had been read, in milliseconds of the fake's clock. */
  readonly t: number;
  readonly method: string;
  /** Without the query string. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The body decoded, or undefined if it is no JSON. */
  readonly json: unknown;
  /** Whether the client left before the answer was complete. */
  readonly aborted: boolean;
  /** Status sent; 499 if the client left before; 0 while there is none. */
  readonly status: number;
  /** Resolves when the answer has been sent or the connection is gone. */
  readonly done: Promise<void>;
}

/** What the handlers share. */
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

/** One request on its way through a handler. */
export interface Call {
  readonly world: World;
  readonly path: string;
  readonly body: string;
  /** The mishap that meets it, if any. */
  readonly fault: Fault | undefined;
  readonly changes: readonly LastingFault[];
  /** Ends when the client goes away. */
  readonly signal: AbortSignal;
}
