/**
 * Revision of the chunking rules, which is part of an embedding version. Increment it whenever the same text would be
 * split differently, so that memories are embedded again.
 */
export const CHUNKER_REVISION = 1;

/** A part of a text that gets one embedding. Offsets are UTF-16 code units, as in `String.slice`. */
export interface Chunk {
  /** Consecutive, starting at 0. */
  readonly index: number;
  readonly start: number;
  /** Exclusive. The start of the next chunk, or the length of the text. */
  readonly end: number;
}

/**
 * How far a segmenter sees beyond the last allowed boundary. Whether a boundary exists depends on the text after it,
 * and a segmenter always finds a boundary at the end of its input.
 */
const LOOKAHEAD = 64;

const PARAGRAPH_BREAK = /\r?\n(?:[ \t]*\r?\n)+/g;

// Not the locale of the machine, because every machine must split a text in the same way.
const LOCALE = "en";
const sentences = new Intl.Segmenter(LOCALE, { granularity: "sentence" });
const words = new Intl.Segmenter(LOCALE, { granularity: "word" });
const graphemes = new Intl.Segmenter(LOCALE, { granularity: "grapheme" });

/**
 * Splits a text into chunks of at most `maxLength` UTF-16 code units. The chunks are adjacent and cover the whole text.
 * Each chunk is as long as possible and ends, within its last half, at the best boundary: after a paragraph, a line, a
 * sentence, a space, a word or a grapheme, in this order. Only a grapheme longer than `maxLength` is split, and never
 * within a surrogate pair. A text that fits, including the empty text, is one chunk. Takes time linear in the length of
 * the text.
 *
 * @throws RangeError if `maxLength` is not an integer of at least 2, the length of a surrogate pair
 */
export function chunkText(content: string, maxLength: number): Chunk[] {
  if (!Number.isSafeInteger(maxLength) || maxLength < 2) {
    throw new RangeError(`maxLength must be an integer of at least 2, got ${maxLength}`);
  }
  const chunks: Chunk[] = [];
  let start = 0;
  while (content.length - start > maxLength) {
    const end = start + cutLength(content.slice(start, start + maxLength + LOOKAHEAD), maxLength);
    chunks.push({ index: chunks.length, start, end });
    start = end;
  }
  chunks.push({ index: chunks.length, start, end: content.length });
  return chunks;
}

/** Returns the text of one chunk of `content`. */
export function textOfChunk(content: string, chunk: Chunk): string {
  return content.slice(chunk.start, chunk.end);
}

/** Returns the length of the first chunk of `window`, which is longer than `maxLength`. */
function cutLength(window: string, maxLength: number): number {
  const shortest = Math.ceil(maxLength / 2);
  return (
    afterParagraph(window, shortest, maxLength) ??
    afterLine(window, shortest, maxLength) ??
    lastBoundary(sentences, window, shortest, maxLength) ??
    afterWord(window, shortest, maxLength) ??
    lastBoundary(graphemes, window, 1, maxLength) ??
    beforeSurrogatePair(window, maxLength)
  );
}

function afterParagraph(window: string, shortest: number, longest: number): number | undefined {
  let cut: number | undefined;
  for (const match of window.slice(0, longest).matchAll(PARAGRAPH_BREAK)) {
    const end = match.index + match[0].length;
    if (end >= shortest) cut = end;
  }
  return cut;
}

function afterLine(window: string, shortest: number, longest: number): number | undefined {
  const cut = window.slice(shortest - 1, longest).lastIndexOf("\n");
  return cut === -1 ? undefined : shortest + cut;
}

/**
 * Returns the end of the last space, or else of the last word, because scripts such as Thai and Chinese have no spaces.
 */
function afterWord(window: string, shortest: number, longest: number): number | undefined {
  let afterSpace: number | undefined;
  let last: number | undefined;
  let isSpaceBefore = false;
  for (const { index, segment } of words.segment(window)) {
    if (index > longest) break;
    if (index >= shortest) {
      last = index;
      if (isSpaceBefore) afterSpace = index;
    }
    isSpaceBefore = segment.trim() === "";
  }
  return afterSpace ?? last;
}

function lastBoundary(
  segmenter: Intl.Segmenter,
  window: string,
  shortest: number,
  longest: number,
): number | undefined {
  let cut: number | undefined;
  for (const { index } of segmenter.segment(window)) {
    if (index > longest) break;
    if (index >= shortest) cut = index;
  }
  return cut;
}

function beforeSurrogatePair(window: string, longest: number): number {
  const isInsidePair = (window.codePointAt(longest - 1) ?? 0) > 0xffff;
  return isInsidePair ? longest - 1 : longest;
}
