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

/** Reads `"quoted words"`, `-word` and `-"quoted words"`; whatever else looks like an operator separates words. */
export function parseTextQuery(query: string): TextTerms {
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
