/**
 * Saturation of term frequency and weight of length in BM25; the BM25 index has the same (sql/000008_pad_short_texts.sql).
 */
export const K1 = 1.5;
export const B = 0.6;
/** Words that a shorter text counts as: few words are no sign that it is about nothing else. The BM25 index pads it. */
export const MIN_LENGTH = 20;

/** A word of the query. */
export interface Term {
  readonly lexeme: string;
  /** How many memories have it. */
  readonly documents: number;
  /** How much it counts: inverse document frequency times occurrences in the query. */
  readonly weight: number;
}

/** Which memories are worth ranking. */
export interface TermChoice {
  /** All memories with one of these lexemes. */
  readonly whole: readonly string[];
  /** Up to `limit` further memories with this one; undefined if `whole` are all lexemes. */
  readonly partial: { readonly lexeme: string; readonly limit: number } | undefined;
}

/** ln(1 + (n - df + 0.5) / (df + 0.5)): above 0 also where statistics lag behind. */
export function inverseDocumentFrequency(documents: number, memories: number): number {
  return Math.log(1 + Math.max(0, memories - documents + 0.5) / (documents + 0.5) + Number.EPSILON);
}

/**
 * The rarest terms while their memories add up to the budget; what is left of it goes to the next, so that a search for
 * a rare and a frequent word still fills its limit.
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
