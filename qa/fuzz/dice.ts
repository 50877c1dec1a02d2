import { createRandom } from "../../test/support/random.ts";

/** Random choices that are the same for the same seed and case. */
export interface Dice {
  /** Returns a whole number from `min` to `max`, both inclusive. */
  between(min: number, max: number): number;
  /** Returns true with this probability in percent. */
  chance(percent: number): boolean;
  pick<T>(items: readonly [T, ...T[]] | readonly T[]): T;
  bytes(length: number): Uint8Array<ArrayBuffer>;
}

/** Creates the dice of one case of a run. */
export function createDice(seed: number, n: number): Dice {
  const { between } = createRandom(Math.imul(n + 1, 0x9e3779b1) ^ Math.imul(seed + 1, 0x85ebca6b));
  return {
    between,
    chance: (percent) => between(1, 100) <= percent,
    pick<T>(items: readonly T[]): T {
      if (items.length === 0) throw new Error("nothing to pick from");
      return items[between(0, items.length - 1)] as T;
    },
    bytes: (length) => Uint8Array.from({ length }, () => between(0, 255)),
  };
}
