import { createRandom, type Random } from "../../test/support/random.ts";

/** A memory as a client is to write it. */
export interface Draft {
  readonly id: string;
  readonly content: string;
}

/** What a client does next. No two clients write the same memory. */
export type Operation =
  /** Several: in one batch. Background: without waiting for the embedding. */
  | { readonly kind: "store"; readonly drafts: readonly Draft[]; readonly background: boolean }
  /** `expecting`: only if it is at the version last seen. `replacing`: by storing it again. */
  | { readonly kind: "update"; readonly draft: Draft; readonly way: "blind" | "expecting" | "replacing" }
  | { readonly kind: "delete"; readonly id: string }
  | { readonly kind: "read"; readonly id: string };

/** How much is to be done. */
export interface Size {
  readonly memories: number;
  readonly clients: number;
}

/** Memories with this word are those that a poisoned model fails on. */
export const POISON = "arsenic";

const VOCABULARY =
  "copper lantern orchard glacier violin meadow saddle compass thunder basket harbour velvet anchor pepper window " +
  "bridge candle desert engine feather garden hammer island jacket kettle ladder mirror needle";
const WORDS = VOCABULARY.split(" ");

/** Of 100 operations, how many are of which kind; the rest store one memory. */
const UPDATES = 13;
const DELETES = 7;
const READS = 8;
const BATCHES = 7;
const MAX_BATCH = 8;
/** Every so many memories there is a long one, of several chunks, and one with POISON. */
const LONG_EVERY = 40;
const POISON_EVERY = 25;
/** Of a long content: more than a chunk of the usual model takes. */
const LONG_WORDS = 900;

/** What each client does, in its order. The same seed makes the same plan. */
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
      const content = makeContent(`${id} anew ${operations.length}`, operations.length, random);
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

/** Different for every name. */
function makeContent(name: string, n: number, random: Random): string {
  const length = n % LONG_EVERY === 0 ? LONG_WORDS : random.between(6, 20);
  const words = Array.from({ length }, () => WORDS[random.between(0, WORDS.length - 1)]);
  return [name, ...(n % POISON_EVERY === 0 ? [POISON] : []), ...words].join(" ");
}
