/** Evaluates one answer: its ids, best first, against the ids of the right documents, all of equal grade. */

/** Number of hits that count. */
export const CUTOFF = 10;

/**
 * Returns the normalized discounted cumulative gain of the first ten, with binary gain: 1 if the right documents come
 * first, 0 if none is among them (Järvelin and Kekäläinen, 2002).
 */
export function ndcg(hits: readonly string[], relevant: ReadonlySet<string>): number {
  const gain = (rank: number) => 1 / Math.log2(rank + 2);
  let found = 0;
  for (const [rank, id] of hits.slice(0, CUTOFF).entries()) if (relevant.has(id)) found += gain(rank);
  let ideal = 0;
  for (let rank = 0; rank < Math.min(CUTOFF, relevant.size); rank++) ideal += gain(rank);
  return ideal === 0 ? 0 : found / ideal;
}

/** Returns the share of the right documents that are among the first ten. */
export function recall(hits: readonly string[], relevant: ReadonlySet<string>): number {
  if (relevant.size === 0) return 0;
  return hits.slice(0, CUTOFF).filter((id) => relevant.has(id)).length / relevant.size;
}

/** Returns 1 divided by the rank of the first right document, or 0 if it is not among the first ten. */
export function reciprocalRank(hits: readonly string[], relevant: ReadonlySet<string>): number {
  const rank = hits.slice(0, CUTOFF).findIndex((id) => relevant.has(id));
  return rank === -1 ? 0 : 1 / (rank + 1);
}

/** Returns 1 if one of the first ten is from the session (the id before its last colon) of a right document, else 0. */
export function sessionFound(hits: readonly string[], relevant: ReadonlySet<string>): number {
  const sessions = new Set([...relevant].map(sessionOf));
  return hits.slice(0, CUTOFF).some((id) => sessions.has(sessionOf(id))) ? 1 : 0;
}

function sessionOf(id: string): string {
  return id.slice(0, Math.max(0, id.lastIndexOf(":")));
}

export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

export interface Difference {
  readonly mean: number;
  /** Bounds that contain 95 % of the means of samples drawn from the queries. */
  readonly low: number;
  readonly high: number;
}

const SAMPLES = 2_000;

/** Compares `a` with `b` query by query, with a paired bootstrap (percentile method). */
export function pairedDifference(
  a: readonly number[],
  b: readonly number[],
  random: () => number,
): Difference {
  const differences = a.map((value, index) => value - (b[index] ?? 0));
  const means = Array.from({ length: SAMPLES }, () => {
    let sum = 0;
    for (let n = 0; n < differences.length; n++) {
      sum += differences[Math.floor(random() * differences.length)] ?? 0;
    }
    return sum / Math.max(1, differences.length);
  }).sort((x, y) => x - y);
  return { mean: mean(differences), low: means[SAMPLES * 0.025] ?? 0, high: means[SAMPLES * 0.975] ?? 0 };
}
