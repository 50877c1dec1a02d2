const pieces = /[\p{L}\p{N}_]+|[^\s]/gu;
const wordStart = /^[\p{L}\p{N}_]/u;

/** Whether a character belongs to a script without spaces between words, so that each counts as a word. */
export const cjk = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/u;

/** Tokens that a model adds to every text: one before it and one after it. */
export const specialTokens = 2;

/**
 * Returns the ends of the tokens of `text` as UTF-16 offsets: a word has one token for each four characters, anything
 * else (punctuation, CJK) one for each character. Special tokens are not counted.
 */
export function tokenEnds(text: string): number[] {
  const ends: number[] = [];
  for (const { 0: piece, index } of text.matchAll(pieces)) {
    if (!wordStart.test(piece)) {
      ends.push(index + piece.length);
      continue;
    }
    let end = index;
    let pending = 0;
    for (const character of piece) {
      const single = cjk.test(character);
      if (pending === 4 || (single && pending > 0)) {
        ends.push(end);
        pending = 0;
      }
      end += character.length;
      if (single) ends.push(end);
      else pending += 1;
    }
    if (pending > 0) ends.push(end);
  }
  return ends;
}
