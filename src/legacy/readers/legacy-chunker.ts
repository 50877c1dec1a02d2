/** What `str.isspace` and `\s` of Python mean: not U+FEFF, as JavaScript does, but U+001C to U+001F and U+0085. */
const SPACE = "\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

const PARAGRAPH_BREAK = new RegExp(`\\n[${SPACE}]*\\n`, "u");
const SENTENCE_BREAK = new RegExp(`(?<=[.!?])[${SPACE}]+`, "u");
const OUTER_SPACE = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "gu");

/** In characters (code points). */
const SHORTEST = 50;
const LONGEST = 1_000;

/**
 * The texts that the old system embedded for a content. It dropped paragraphs of fewer than 50 characters, unless
 * nothing else was there; a sentence was never cut.
 */
export function legacyChunks(content: string): string[] {
  const chunks = content
    .split(PARAGRAPH_BREAK)
    .map((paragraph) => paragraph.replace(OUTER_SPACE, ""))
    .filter((paragraph) => codePoints(paragraph) >= SHORTEST)
    .flatMap((paragraph) => (codePoints(paragraph) <= LONGEST ? [paragraph] : joinSentences(paragraph)));
  return chunks.length === 0 ? [content] : chunks;
}

function joinSentences(paragraph: string): string[] {
  const chunks: string[] = [];
  let current = "";
  let length = 0;
  for (const sentence of paragraph.split(SENTENCE_BREAK)) {
    const added = codePoints(sentence);
    if (length + added > LONGEST && length >= SHORTEST) {
      chunks.push(current);
      current = sentence;
      length = added;
    } else {
      current = current === "" ? sentence : `${current} ${sentence}`;
      length = codePoints(current);
    }
  }
  if (length >= SHORTEST) chunks.push(current);
  return chunks;
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
