import type { LegacyAnswer } from "./search-legacy.ts";

/** How the two results of one query differ. */
export interface AnswerComparison {
  readonly query: string;
  readonly clear: boolean;
  readonly old: number;
  readonly new: number;
  /** Number of memories in both results. */
  readonly common: number;
  /** Whether both results start with the same memory; true if both are empty. */
  readonly sameTop: boolean;
  /** Ranks of each memory of the old result, starting at 1; `new` is undefined if the new result lacks it. */
  readonly ranks: readonly { readonly id: string; readonly old: number; readonly new: number | undefined }[];
}

/** The summary of all comparisons. */
export interface ComparisonSummary {
  readonly queries: number;
  readonly sameTop: number;
  /** Queries with a clear old result, and those of them with the same top memory. */
  readonly clear: number;
  readonly clearSameTop: number;
  /** Share of the memories in old results that are also in the new ones, from 0 to 1. */
  readonly overlap: number;
  /** Mean difference of the ranks of a memory that is in both results. */
  readonly meanRankChange: number;
}

/** Compares the two results of one query. */
export function compareAnswers(query: string, old: LegacyAnswer, found: readonly string[]): AnswerComparison {
  const ranks = old.hits.map(({ id }, index) => {
    const at = found.indexOf(id);
    return { id, old: index + 1, new: at === -1 ? undefined : at + 1 };
  });
  return {
    query,
    clear: old.clear,
    old: old.hits.length,
    new: found.length,
    common: ranks.filter((rank) => rank.new !== undefined).length,
    sameTop: old.hits[0]?.id === found[0],
    ranks,
  };
}

/** Summarizes comparisons. */
export function summarizeComparisons(comparisons: readonly AnswerComparison[]): ComparisonSummary {
  const clear = comparisons.filter((one) => one.clear);
  const moves = comparisons.flatMap(({ ranks }) =>
    ranks.flatMap((rank) => (rank.new === undefined ? [] : [Math.abs(rank.new - rank.old)])),
  );
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const old = sum(comparisons.map((one) => one.old));
  return {
    queries: comparisons.length,
    sameTop: comparisons.filter((one) => one.sameTop).length,
    clear: clear.length,
    clearSameTop: clear.filter((one) => one.sameTop).length,
    overlap: old === 0 ? 1 : sum(comparisons.map((one) => one.common)) / old,
    meanRankChange: moves.length === 0 ? 0 : sum(moves) / moves.length,
  };
}
