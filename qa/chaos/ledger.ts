/** A possible state of a memory: its content, or undefined if it does not exist. */
export type Held = string | undefined;

/** Records the possible states of each memory, from acknowledged calls and from calls with an unknown outcome. */
export interface Ledger {
  /** Records an acknowledged call: the memory has exactly this content. */
  acknowledge(id: string, held: Held): void;
  /** Records a call without an answer: the memory has this content, or one of the earlier possible ones. */
  leaveOpen(id: string, held: Held): void;
  /** Returns the possible states of a memory; for one that was never written, only that it does not exist. */
  possible(id: string): readonly Held[];
  /** Returns every memory that a client has tried to write. */
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
