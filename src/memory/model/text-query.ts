/** A parsed full-text query. */
export interface TextTerms {
  /** The words that match and rank, any of which suffices: the query without its operators and excluded terms. */
  readonly words: string;
  /** Phrases that a memory must contain. */
  readonly required: readonly string[];
  /** Words and phrases that a memory must not contain. */
  readonly excluded: readonly string[];
}

/**
 * Matches `"phrase"`, `-"phrase"` and `-word` at the start of a word. A quotation mark without a partner is no
 * operator.
 */
const OPERATOR = /(?<!\S)(-?)(?:"([^"]+)"|“([^“”]+)”)|(?<!\S)-([\p{L}\p{N}]\S*)/gu;

/**
 * A longer query is treated as prose, in which quotation marks and hyphens are punctuation. On CISI, whose queries have
 * up to 1,400 characters, this gives an nDCG@10 of .391 instead of .379, and no empty answers.
 */
export const MAX_OPERATOR_LENGTH = 500;

/**
 * Matches a question. Its quotation marks name a title or quote a person, possibly in other words than the memory has:
 * of ten such questions in LoCoMo, four found nothing with quotation marks as operators.
 */
const QUESTION = /[?？؟]\s*$/u;

/** Parses the operators `"phrase"`, `-word` and `-"phrase"`. All other punctuation separates words. */
export function parseTextQuery(query: string): TextTerms {
  if (query.length > MAX_OPERATOR_LENGTH || QUESTION.test(query))
    return { words: query, required: [], excluded: [] };
  const required: string[] = [];
  const excluded: string[] = [];
  const words = query.replace(OPERATOR, (_match, minus?: string, ...groups: (string | undefined)[]) => {
    const [straight, curly, word] = groups;
    const phrase = straight ?? curly;
    if (word !== undefined) excluded.push(word);
    else if (phrase !== undefined) (minus === "-" ? excluded : required).push(phrase);
    return minus === "" && phrase !== undefined ? ` ${phrase} ` : " ";
  });
  return { words: words.trim(), required, excluded };
}
