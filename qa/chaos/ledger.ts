/** What a memory may hold: a content, or nothing where there is no such memory. */
export type Held = string | undefined;

/** What clients know of their memories: by what was acknowledged, and by what may have happened besides. */
export interface Ledger {
  /** From now on the memory holds this, and nothing else. */
  acknowledge(id: string, held: Held): void;
  /** The answer got lost for good: the memory holds this, or what it held before. */
  leaveOpen(id: string, held: Held): void;
  /** What the memory may hold now; of one that nobody has written: nothing. */
  possible(id: string): readonly Held[];
  /** Every memory that somebody has tried to write. */
  ids(): Iterable<string>;
}

export function createLedger(): Ledger {
  const states = new Map<string, readonly Held[]>();
  const possible = (id: string) => states.get(id) ?? [undefined];
  return {
    possible,
    acknowledge: (id, held) => void states.set(id, [held]),
    leaveOpen: (id, held) => void states.set(id, [...new Set([...possible(id), held])]),
    ids: () => states.keys(),
  };
}
