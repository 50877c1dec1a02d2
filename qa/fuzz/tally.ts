/** Counts outcomes by kind of case. */
export interface Tally {
  count(kind: string, outcome: string): void;
  /** Returns a line for each kind with its outcomes, most frequent first. */
  lines(): string[];
}

export function createTally(): Tally {
  const byKind = new Map<string, Map<string, number>>();
  return {
    count(kind, outcome) {
      const outcomes = byKind.get(kind) ?? new Map<string, number>();
      byKind.set(kind, outcomes);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    },
    lines() {
      return [...byKind].sort().flatMap(([kind, outcomes]) => {
        const total = [...outcomes.values()].reduce((sum, count) => sum + count, 0);
        const parts = [...outcomes].sort(([, a], [, b]) => b - a).map(([name, count]) => `${name} ${count}`);
        return [`${kind}: ${total}`, `  ${parts.join(" | ")}`];
      });
    },
  };
}
