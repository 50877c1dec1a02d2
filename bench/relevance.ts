/**
 * Metrics of one ranked answer against the ids that are right, all of equal grade. Each is between 0 and 1; a query
 * without right answers has 0 everywhere.
 */

/** Normalised discounted cumulative gain of the first `depth` answers: right ones count less the later they come. */
export function ndcg(ranked: readonly string[], relevant: ReadonlySet<string>, depth = 10): number {
  const gain = sumOf(first(ranked, depth), (id, rank) => (relevant.has(id) ? discount(rank) : 0));
  const ideal = sumOf(Array.from({ length: Math.min(depth, relevant.size) }), (_, rank) => discount(rank));
  return ideal === 0 ? 0 : gain / ideal;
}

/** How many of the right answers are among the first `depth`. */
export function recall(ranked: readonly string[], relevant: ReadonlySet<string>, depth = 10): number {
  const found = first(ranked, depth).filter((id) => relevant.has(id)).length;
  return relevant.size === 0 ? 0 : found / relevant.size;
}

/** Reciprocal rank of the first right answer among the first `depth`: 1, 1/2, 1/3 ... or 0. */
export function reciprocalRank(ranked: readonly string[], relevant: ReadonlySet<string>, depth = 10): number {
  const index = first(ranked, depth).findIndex((id) => relevant.has(id));
  return index === -1 ? 0 : 1 / (index + 1);
}

/** 0 for no values. */
export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : sumOf(values, (value) => value) / values.length;
}

/** An id that comes twice counts once. */
function first(ranked: readonly string[], depth: number): string[] {
  return [...new Set(ranked)].slice(0, depth);
}

/** `rank` counts from 0. */
function discount(rank: number): number {
  return 1 / Math.log2(rank + 2);
}

function sumOf<T>(values: readonly T[], of: (value: T, index: number) => number): number {
  return values.reduce((sum, value, index) => sum + of(value, index), 0);
}
