import type { LegacyAnswer } from "./search-legacy.ts";

/** How two answers to one question differ. */
export interface AnswerComparison {
  readonly query: string;
  readonly clear: boolean;
  readonly old: number;
  readonly new: number;
  /** Memories in both. */
  readonly common: number;
  /** Whether both begin with the same memory; true where both are empty. */
  readonly sameTop: boolean;
  /** Of each memory of the old answer, ranks from 1; `new` is undefined where it is not in the new answer. */
  readonly ranks: readonly { readonly id: string; readonly old: number; readonly new: number | undefined }[];
}

/** What all of them say together. */
export interface ComparisonSummary {
  readonly queries: number;
  readonly sameTop: number;
  /** Questions whose old answer was clear, and how many of those have the same memory at the top. */
  readonly clear: number;
  readonly clearSameTop: number;
  /** Share of the old answers' memories that are in the new ones, from 0 to 1. */
  readonly overlap: number;
  /** How far a memory of both answers has moved, on average. */
  readonly meanRankChange: number;
}

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
