/** BM25's saturation of term frequency. The BM25 index uses the same value (sql/). */
export const K1 = 1.5;
/** BM25's weight of the text length. The BM25 index uses the same value (sql/). */
export const B = 0.6;
/**
 * Minimum length of a text in words; a shorter text counts as this long, since brevity does not show that it is more specific.
 * The BM25 index pads short texts.
 */
export const MIN_LENGTH = 20;

/** A word of the query. */
export interface Term {
  readonly lexeme: string;
  /** Number of memories that contain it. */
  readonly documents: number;
  /** Inverse document frequency times occurrences in the query. */
  readonly weight: number;
}

/** Which memories to rank. */
export interface TermChoice {
  /** Rank all memories with one of these lexemes. */
  readonly whole: readonly string[];
  /** Rank up to `limit` further memories with this lexeme; undefined if `whole` contains all lexemes. */
  readonly partial: { readonly lexeme: string; readonly limit: number } | undefined;
}

/** Returns ln(1 + (n - df + 0.5) / (df + 0.5)), which stays above 0 even if the statistics are out of date. */
export function inverseDocumentFrequency(documents: number, memories: number): number {
  return Math.log(1 + Math.max(0, memories - documents + 0.5) / (documents + 0.5) + Number.EPSILON);
}

/**
 * Chooses the rarest terms until their memories reach the budget. The next term gets the rest of the budget, so that a search
 * for a rare and a frequent word still fills its limit.
 */
export function chooseTerms(terms: readonly Term[], budget: number): TermChoice {
  const whole: string[] = [];
  let left = budget;
  for (const { lexeme, documents } of [...terms].sort((a, b) => a.documents - b.documents)) {
    if (documents > left) return { whole, partial: { lexeme, limit: Math.ceil(left) } };
    whole.push(lexeme);
    left -= documents;
  }
  return { whole, partial: undefined };
}
