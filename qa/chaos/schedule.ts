import { createRandom } from "../../test/support/random.ts";
import type { Fault } from "../fakes/ollama/index.ts";
import { FAULTS } from "./faults.ts";

/** A failure that the run causes. */
export type Incident =
  /** Kills the server with SIGKILL and restarts it at once; if set, kills a first restart after `againAfterMs`. */
  | { readonly kind: "kill"; readonly againAfterMs: number | undefined }
  /** Stops PostgreSQL as in a crash and restarts it after this delay. */
  | { readonly kind: "stop"; readonly awayMs: number }
  /** Gives the embedder a fault that lasts until the next incident of this kind. */
  | { readonly kind: "fault"; readonly fault: Fault };

/** An incident and the time it is due. */
export interface Due {
  /** The number of ended operations after which it is due. */
  readonly at: number;
  readonly incident: Incident;
}

/** Number of incidents of each kind. */
export interface Trouble {
  readonly kills: number;
  readonly stops: number;
  readonly faults: number;
  /** The share of the operations until which a model fails on some texts. */
  readonly poisonUntil: number;
}

const LONGEST_STOP_MS = 1_500;
/** Roughly the duration of a start. */
const LONGEST_START_MS = 2_000;

/** Spreads all incidents over the operations, in order. The same seed creates the same schedule. */
export function planIncidents(trouble: Trouble, operations: number, seed: number): Due[] {
  const { kills, stops } = trouble;
  const faults = Math.min(trouble.faults, FAULTS.length);
  const random = createRandom(seed);
  const count = kills + stops + faults;
  const others = shuffle(
    [
      ...Array.from({ length: kills }, (_, n) => {
        const againAfterMs = n % 3 === 0 ? random.between(0, LONGEST_START_MS) : undefined;
        return { kind: "kill", againAfterMs } as const;
      }),
      ...Array.from({ length: stops }, () => {
        return { kind: "stop", awayMs: random.between(0, LONGEST_STOP_MS) } as const;
      }),
    ],
    random.between,
  );
  const faulty = shuffle(
    FAULTS.slice(0, faults).map((fault) => ({ kind: "fault", fault }) as const),
    random.between,
  );
  const places = new Set(shuffle([...Array(count).keys()], random.between).slice(0, others.length));
  const spacing = operations / (count + 1);
  return Array.from({ length: count }, (_, n) => {
    const incident = (places.has(n) ? others : faulty).shift();
    if (incident === undefined) throw new Error("fewer incidents than counted");
    return { at: Math.round((n + random.between(50, 130) / 100) * spacing), incident };
  });
}

function shuffle<T>(items: readonly T[], between: (min: number, max: number) => number): T[] {
  const shuffled = [...items];
  for (let last = shuffled.length - 1; last > 0; last--) {
    const other = between(0, last);
    const [a, b] = [shuffled[last], shuffled[other]] as [T, T];
    shuffled[last] = b;
    shuffled[other] = a;
  }
  return shuffled;
}
