import type { Snippet } from "../model/memory-repository.ts";
import { parseTextQuery } from "./text-query.ts";

/** Code points of a snippet: a few lines, enough to see why it matched. */
export const SNIPPET_LENGTH = 300;
/** Code points before the first word, so that it is read in its sentence. */
const LEAD = 60;
/** Of a query; each word of a content is compared with those that begin as it does. */
const MAX_WORDS = 64;
/** An inflected form counts less than the word itself. */
const INFLECTED = 0.5;

const WORD = /[\p{L}\p{N}\p{M}]+/gu;
/** Scripts without spaces: every character is a word. */
const UNSPACED = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}]/u;
const UNSPACED_WORD = new RegExp(`${UNSPACED.source}|(?:(?!${UNSPACED.source})[\\p{L}\\p{N}\\p{M}])+`, "gu");

/** Finds the piece of a text with the most and rarest words of a query. */
export type FindPlace = (text: Snippet) => Snippet | undefined;

interface Match {
  /** In UTF-16 code units. */
  readonly start: number;
  readonly end: number;
  readonly word: number;
  readonly closeness: number;
}

/**
 * Looks for words as a reader would, by their letters and not by the domain's stemming, which is the database's: the same
 * word, or one with the same beginning and another ending. A word is worth the less the more often the text has it, so
 * stop words hardly count. Time is linear in the text.
 *
 * @returns undefined for a text without any of the words
 */
export function createPlaceFinder(query: string): FindPlace {
  const words = [...new Set(wordsOf(parseTextQuery(query).words).map(({ form }) => form))].slice(
    0,
    MAX_WORDS,
  );
  const byBeginning = Map.groupBy(words.entries(), ([, word]) => word.slice(0, 3));

  function matchesIn(text: string): Match[] {
    return wordsOf(text).flatMap(({ form, start, end }) => {
      let best: Match | undefined;
      for (const [word, wanted] of byBeginning.get(form.slice(0, 3)) ?? []) {
        const closeness = form === wanted ? 1 : isInflected(form, wanted) ? INFLECTED : 0;
        if (closeness > (best?.closeness ?? 0)) best = { start, end, word, closeness };
      }
      return best ?? [];
    });
  }

  return (region) => {
    const matches = matchesIn(region.text);
    const place = bestPlace(matches);
    return place === undefined ? undefined : cut(region, place);
  };
}

function wordsOf(text: string): { readonly form: string; readonly start: number; readonly end: number }[] {
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

/** Whether two words share all but their endings. Short words and numbers have none. */
function isInflected(a: string, b: string): boolean {
  let common = 0;
  while (common < a.length && common < b.length && a[common] === b[common]) common++;
  const longer = Math.max(a.length, b.length);
  const shorter = Math.min(a.length, b.length);
  return common >= Math.max(3, longer - 4, shorter <= 5 ? shorter - 1 : 0) && !/\d/.test(a + b);
}

/** The stretch, a little shorter than a snippet, whose different words are worth the most together; of equal ones the first. */
function bestPlace(matches: readonly Match[]): { readonly start: number; readonly end: number } | undefined {
  const total = countWords(matches);
  /** How often the stretch has each word as it is, and inflected. */
  const exact = new Map<number, number>();
  const inflected = new Map<number, number>();
  let sum = 0;
  const worthOf = (word: number) => {
    const closeness = exact.get(word) ? 1 : inflected.get(word) ? INFLECTED : 0;
    return closeness / (total.get(word) ?? 1);
  };
  const count = ({ word, closeness }: Match, by: 1 | -1) => {
    const counts = closeness === 1 ? exact : inflected;
    const before = worthOf(word);
    counts.set(word, (counts.get(word) ?? 0) + by);
    sum += worthOf(word) - before;
  };

  let best: { start: number; end: number } | undefined;
  let most = 0;
  let next = 0;
  for (const first of matches) {
    let match = matches[next];
    while (match !== undefined && (match === first || match.end - first.start <= SNIPPET_LENGTH - LEAD)) {
      count(match, 1);
      next++;
      match = matches[next];
    }
    // More than what sums of fractions lose.
    if (sum > most + 1e-9)
      [most, best] = [sum, { start: first.start, end: matches[next - 1]?.end ?? first.end }];
    count(first, -1);
  }
  return best;
}

function countWords(matches: readonly Match[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { word } of matches) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

/** A snippet with the place in it: the beginning of the text if that has it, else from a space shortly before the place. */
function cut(region: Snippet, place: { readonly start: number; readonly end: number }): Snippet {
  const points = [...region.text];
  const before = pointsOf(region.text.slice(0, place.start));
  const end = before + pointsOf(region.text.slice(place.start, place.end));
  let from = 0;
  if (end > SNIPPET_LENGTH) {
    from = Math.max(0, before - LEAD);
    const space = points.findIndex((point, index) => index >= from && index < before && /\s/u.test(point));
    if (from > 0 && space >= 0) from = space + 1;
  }
  const text = points.slice(from, from + SNIPPET_LENGTH);
  return { text: text.join(""), start: region.start + from, end: region.start + from + text.length };
}

function pointsOf(text: string): number {
  let points = 0;
  for (const _ of text) points++;
  return points;
}
