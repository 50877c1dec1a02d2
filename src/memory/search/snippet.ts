import type { Snippet } from "../model/search-index.ts";

/** Length of a snippet in code points: a few lines, enough to see why the memory matched. */
export const SNIPPET_LENGTH = 300;
/** Code points before the first matching word, so that the reader sees its context. */
const LEAD = 60;
/** Maximum number of query words. Each word of a content is compared with the query words that share its first letters. */
const MAX_WORDS = 64;
/** Weight of an inflected form, relative to the word itself. */
const INFLECTED_WEIGHT = 0.5;

const WORD = /[\p{L}\p{N}\p{M}]+/gu;
/** Scripts without spaces, in which every character counts as a word. */
const UNSPACED = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}]/u;
const UNSPACED_WORD = new RegExp(`${UNSPACED.source}|(?:(?!${UNSPACED.source})[\\p{L}\\p{N}\\p{M}])+`, "gu");

/** Returns the part of a text that holds the most and the rarest words of a query; undefined if it holds none of them. */
export type Highlight = (text: Snippet) => Snippet | undefined;

/** A range of a text in UTF-16 code units; `end` is exclusive. */
interface Span {
  readonly start: number;
  readonly end: number;
}

interface Match extends Span {
  /** Index of the query word. */
  readonly word: number;
  /** 1 for the word itself, INFLECTED_WEIGHT for an inflected form. */
  readonly weight: number;
}

/**
 * Creates a highlighter for the words of a query.
 *
 * It compares words by their letters, since stemming belongs to the database: a word matches itself, and any word that starts
 * alike and ends differently. The more often a text has a word, the less the word counts, so stop words hardly matter. The time
 * is linear in the length of the text.
 */
export function createHighlighter(queryWords: string): Highlight {
  const words = [...new Set(wordsOf(queryWords).map(({ form }) => form))].slice(0, MAX_WORDS);
  const byFirstLetters = Map.groupBy(words.entries(), ([, word]) => word.slice(0, 3));

  function matchesIn(text: string): Match[] {
    return wordsOf(text).flatMap(({ form, start, end }) => {
      let best: Match | undefined;
      for (const [word, wanted] of byFirstLetters.get(form.slice(0, 3)) ?? []) {
        const weight = form === wanted ? 1 : isInflected(form, wanted) ? INFLECTED_WEIGHT : 0;
        if (weight > (best?.weight ?? 0)) best = { start, end, word, weight };
      }
      return best ?? [];
    });
  }

  return (region) => {
    const span = bestSpan(matchesIn(region.text));
    return span === undefined ? undefined : cutSnippet(region, span);
  };
}

function wordsOf(text: string): (Span & { readonly form: string })[] {
  const word = UNSPACED.test(text) ? UNSPACED_WORD : WORD;
  return [...text.matchAll(word)].map(({ 0: found, index }) => ({
    form: fold(found),
    start: index,
    end: index + found.length,
  }));
}

function fold(word: string): string {
  const lower = word.toLowerCase();
  return /^[a-z0-9]*$/.test(lower) ? lower : lower.normalize("NFKD").replace(/\p{M}/gu, "");
}

/** Returns whether two words differ only in their endings. Short words and numbers have no endings. */
function isInflected(a: string, b: string): boolean {
  let common = 0;
  while (common < a.length && common < b.length && a[common] === b[common]) common++;
  const longer = Math.max(a.length, b.length);
  const shorter = Math.min(a.length, b.length);
  return common >= Math.max(3, longer - 4, shorter <= 5 ? shorter - 1 : 0) && !/\d/.test(a + b);
}

/**
 * Returns the span, slightly shorter than a snippet, whose distinct words have the highest total value; the first of equal
 * spans.
 */
function bestSpan(matches: readonly Match[]): Span | undefined {
  const total = countWords(matches);
  /** How often the window has each word itself, and inflected forms of it. */
  const exact = new Map<number, number>();
  const inflected = new Map<number, number>();
  let sum = 0;
  const wordValue = (word: number) => {
    const weight = exact.get(word) ? 1 : inflected.get(word) ? INFLECTED_WEIGHT : 0;
    return weight / (total.get(word) ?? 1);
  };
  const count = ({ word, weight }: Match, by: 1 | -1) => {
    const counts = weight === 1 ? exact : inflected;
    const before = wordValue(word);
    counts.set(word, (counts.get(word) ?? 0) + by);
    sum += wordValue(word) - before;
  };

  let best: Span | undefined;
  let highest = 0;
  let next = 0;
  for (const first of matches) {
    let match = matches[next];
    while (match !== undefined && (match === first || match.end - first.start <= SNIPPET_LENGTH - LEAD)) {
      count(match, 1);
      next++;
      match = matches[next];
    }
    // The margin exceeds the rounding error of the sum.
    if (sum > highest + 1e-9)
      [highest, best] = [sum, { start: first.start, end: matches[next - 1]?.end ?? first.end }];
    count(first, -1);
  }
  return best;
}

function countWords(matches: readonly Match[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { word } of matches) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

/** Returns a snippet that contains the span. It starts with the text if possible, otherwise at a space shortly before the span. */
function cutSnippet(region: Snippet, span: Span): Snippet {
  const points = [...region.text];
  const before = countCodePoints(region.text.slice(0, span.start));
  const end = before + countCodePoints(region.text.slice(span.start, span.end));
  let from = 0;
  if (end > SNIPPET_LENGTH) {
    from = Math.max(0, before - LEAD);
    const space = points.findIndex((point, index) => index >= from && index < before && /\s/u.test(point));
    if (from > 0 && space >= 0) from = space + 1;
  }
  const text = points.slice(from, from + SNIPPET_LENGTH);
  return { text: text.join(""), start: region.start + from, end: region.start + from + text.length };
}

function countCodePoints(text: string): number {
  let points = 0;
  for (const _ of text) points++;
  return points;
}
