/**
 * Which rules made the chunks; part of an embedding version. Raise it whenever the same text would be cut
 * elsewhere, so that stored vectors of the former rules are made again.
 */
export const CHUNKER_REVISION = 1;

/** A stretch of a text that gets one embedding. Offsets are UTF-16 code units, as in `String.slice`. */
export interface Chunk {
  /** 0 for the first chunk, then counting up without gaps. */
  readonly index: number;
  readonly start: number;
  /** Exclusive: the start of the next chunk, or the length of the text. */
  readonly end: number;
}

/**
 * How far past the last allowed cut a segmenter sees. Whether a boundary exists depends on what follows it;
 * the text ends for the segmenter where its window ends, and a boundary there would be made up.
 */
const LOOKAHEAD = 64;

const PARAGRAPH_BREAK = /\r?\n(?:[ \t]*\r?\n)+/g;

// No locale of the machine: the same text must be cut at the same places everywhere.
const LOCALE = "en";
const sentences = new Intl.Segmenter(LOCALE, { granularity: "sentence" });
const words = new Intl.Segmenter(LOCALE, { granularity: "word" });
const graphemes = new Intl.Segmenter(LOCALE, { granularity: "grapheme" });

/**
 * Cuts a text into chunks of at most `maxLength` UTF-16 code units. Nothing is lost or trimmed: the chunks lie
 * side by side and cover the text. Each is as long as it can be with the best cut in its last half: after
 * a paragraph, else a line, a sentence, a space, a word, a character as the reader sees it. Only a single
 * such character longer than `maxLength` is split, and never inside a surrogate pair. A text that fits is one
 * chunk, also the empty text. Takes time linear in the text.
 *
 * @throws RangeError if `maxLength` is not an integer of at least 2, the length of a surrogate pair
 */
export function chunkText(content: string, maxLength: number): Chunk[] {
  if (!Number.isSafeInteger(maxLength) || maxLength < 2) {
    throw new RangeError(`maxLength must be an integer of at least 2, is ${maxLength}`);
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

/** The text of one chunk of `content`. */
export function textOfChunk(content: string, chunk: Chunk): string {
  return content.slice(chunk.start, chunk.end);
}

/** Length of the chunk that begins `window`, which goes on after `maxLength`. */
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

/** After the last space, else after the last word: scripts such as Thai and Chinese write no spaces. */
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
