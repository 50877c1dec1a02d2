import { createRandom, type Random } from "../../test/support/random.ts";

/** A memory that a client will write. */
export interface Draft {
  readonly id: string;
  readonly content: string;
}

/** One operation of a client. No two clients write the same memory. */
export type Operation =
  /** Several drafts form one batch. `background` stores without waiting for the embedding. */
  | { readonly kind: "store"; readonly drafts: readonly Draft[]; readonly background: boolean }
  /** `expecting` requires the version last seen; `replacing` stores the memory again. */
  | { readonly kind: "update"; readonly draft: Draft; readonly way: "blind" | "expecting" | "replacing" }
  | { readonly kind: "delete"; readonly id: string }
  | { readonly kind: "read"; readonly id: string };

/** The size of the run. */
export interface Size {
  readonly memories: number;
  readonly clients: number;
}

/** A poisoned model fails on memories that contain this word. */
export const POISON = "arsenic";

const VOCABULARY =
  "copper lantern orchard glacier violin meadow saddle compass thunder basket harbour velvet anchor pepper window " +
  "bridge candle desert engine feather garden hammer island jacket kettle ladder mirror needle";
const WORDS = VOCABULARY.split(" ");

/** How many of 100 operations have each kind; the rest store one memory. */
const UPDATES = 13;
const DELETES = 7;
const READS = 8;
const BATCHES = 7;
const MAX_BATCH = 8;
/** Intervals, in memories, between long memories of several chunks and between memories with POISON. */
const LONG_EVERY = 40;
const POISON_EVERY = 25;
/** Length of a long content: more than one chunk of the default model. */
const LONG_WORDS = 900;

/** Plans the operations of each client, in order. The same seed creates the same plan. */
export function planOperations({ memories, clients }: Size, seed: number): Operation[][] {
  const random = createRandom(seed);
  return Array.from({ length: clients }, (_, client) => {
    const share = Math.floor((memories + client) / clients);
    return planClient(`client${client}`, share, random);
  });
}

function planClient(name: string, memories: number, random: Random): Operation[] {
  const operations: Operation[] = [];
  const alive: string[] = [];
  let stored = 0;
  const store = (count: number): Operation => {
    const drafts = Array.from({ length: Math.min(count, memories - stored) }, () => {
      const id = `${name}-${stored++}`;
      alive.push(id);
      return { id, content: makeContent(id, stored, random) };
    });
    return { kind: "store", drafts, background: random.between(1, 3) === 1 };
  };
  while (stored < memories) {
    const place = random.between(0, alive.length - 1);
    const id = alive[place];
    let roll = random.between(1, 100);
    if (id !== undefined && roll <= UPDATES) {
      const way = (["blind", "expecting", "replacing"] as const)[roll % 3] ?? "blind";
      const content = makeContent(`${id} revision ${operations.length}`, operations.length, random);
      operations.push({ kind: "update", draft: { id, content }, way });
      continue;
    }
    roll -= UPDATES;
    if (id !== undefined && roll > 0 && roll <= DELETES) {
      alive.splice(place, 1);
      operations.push({ kind: "delete", id });
      continue;
    }
    roll -= DELETES;
    if (id !== undefined && roll > 0 && roll <= READS) {
      operations.push({ kind: "read", id });
      continue;
    }
    roll -= READS;
    operations.push(store(roll > 0 && roll <= BATCHES ? random.between(2, MAX_BATCH) : 1));
  }
  return operations;
}

/** Creates a content that is unique to the name. */
function makeContent(name: string, n: number, random: Random): string {
  const length = n % LONG_EVERY === 0 ? LONG_WORDS : random.between(6, 20);
  const words = Array.from({ length }, () => WORDS[random.between(0, WORDS.length - 1)]);
  return [name, ...(n % POISON_EVERY === 0 ? [POISON] : []), ...words].join(" ");
}
