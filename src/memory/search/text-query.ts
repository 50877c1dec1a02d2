/** What a query asks of the words of a memory. */
export interface TextTerms {
  /** Any of these words may match, and they rank: the query without its operators and without what is excluded. */
  readonly words: string;
  /** Texts whose words must stand together. */
  readonly required: readonly string[];
  /** Words, or texts whose words must not stand together. */
  readonly excluded: readonly string[];
}

/** `"words"`, `-"words"` and `-word`, where a word may begin; a quote that is not closed is no quote. */
const OPERATOR = /(?<!\S)(-?)(?:"([^"]+)"|“([^“”]+)”)|(?<!\S)-([\p{L}\p{N}]\S*)/gu;

/**
 * Longer queries are texts, in which quotes and hyphens are what authors mean by them (on CISI, whose queries are up to
 * 1,400 characters: nDCG@10 .391 instead of .379, and no empty answers).
 */
export const MAX_OPERATOR_LENGTH = 500;

/**
 * A question put to somebody: its quotes name a title or what was said, perhaps in other words than the memory has (of ten
 * such questions in LoCoMo, four found nothing with quotes as operators).
 */
const QUESTION = /[?？؟]\s*$/u;

/** Reads `"quoted words"`, `-word` and `-"quoted words"`; whatever else looks like an operator separates words. */
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
