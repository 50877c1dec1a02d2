/**
 * White space as Python's `\s` defines it: unlike JavaScript's, without U+FEFF and with U+001C to U+001F and U+0085.
 */
const SPACE = "\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

const PARAGRAPH_BREAK = new RegExp(`\\n[${SPACE}]*\\n`, "u");
const SENTENCE_BREAK = new RegExp(`(?<=[.!?])[${SPACE}]+`, "u");
const OUTER_SPACE = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "gu");

/** Bounds of a chunk, in code points. */
const MIN_LENGTH = 50;
const MAX_LENGTH = 1_000;

/**
 * Splits a content into the texts that the old server embedded. It dropped paragraphs of fewer than 50 characters,
 * unless the content had no other, and never split a sentence.
 */
export function legacyChunks(content: string): string[] {
  const chunks = content
    .split(PARAGRAPH_BREAK)
    .map((paragraph) => paragraph.replace(OUTER_SPACE, ""))
    .filter((paragraph) => codePoints(paragraph) >= MIN_LENGTH)
    .flatMap((paragraph) => (codePoints(paragraph) <= MAX_LENGTH ? [paragraph] : joinSentences(paragraph)));
  return chunks.length === 0 ? [content] : chunks;
}

function joinSentences(paragraph: string): string[] {
  const chunks: string[] = [];
  let current = "";
  let length = 0;
  for (const sentence of paragraph.split(SENTENCE_BREAK)) {
    const added = codePoints(sentence);
    if (length + added > MAX_LENGTH && length >= MIN_LENGTH) {
      chunks.push(current);
      current = sentence;
      length = added;
    } else {
      current = current === "" ? sentence : `${current} ${sentence}`;
      length = codePoints(current);
    }
  }
  if (length >= MIN_LENGTH) chunks.push(current);
  return chunks;
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
