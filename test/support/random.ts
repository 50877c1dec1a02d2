/** Pseudo-random numbers that are the same for the same seed. */
export interface Random {
  readonly seed: number;
  /** Returns a whole number from `min` to `max`, both inclusive. */
  between(min: number, max: number): number;
}

/** Creates numbers seeded by TEST_SEED or by a new seed for each run. The caller prints the seed for reproduction. */
export function createRandom(seed = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000)): Random {
  let state = seed >>> 0;
  // Mulberry32, which is in the public domain.
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { seed, between: (min, max) => min + Math.floor(next() * (max - min + 1)) };
}
