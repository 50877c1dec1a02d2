import { synonymGroups } from "./synonyms.ts";
import { cjk } from "./tokens.ts";

/** The role that a text's task prefix states. */
export type TaskRole = "query" | "document" | "none";

const taskPrefixes: readonly (readonly [RegExp, TaskRole])[] = [
  [/^search_query: /, "query"],
  [/^search_document: /, "document"],
  [/^Represent this sentence for searching relevant passages: /, "query"],
  [/^query: /, "query"],
  [/^task: [^|\n]* \| query: /, "query"],
  [/^title: [^|\n]* \| text: /, "document"],
  [/^Instruct: [^\n]*\nQuery: ?/, "query"],
];

/** Removes the task prefix of a text and returns its role. */
export function roleAndText(text: string): { readonly role: TaskRole; readonly text: string } {
  for (const [prefix, role] of taskPrefixes) {
    const found = prefix.exec(text);
    if (found) return { role, text: text.slice(found[0].length) };
  }
  return { role: "none", text };
}

const unknownWord = "[unk]";
const wordPattern = /[\p{L}\p{N}_]+/gu;

/** Peculiarities of a tokenizer. */
export interface WordOptions {
  /** CJK characters are not in the vocabulary: all become the same token. */
  readonly cjkUnknown: boolean;
  /** Every word with an upper-case letter becomes that token too (Ollama 0.13.1 to 0.24). */
  readonly caseBug: boolean;
}

/** Splits a text into words: without diacritics, lower case, each CJK character separate. */
export function wordsOf(text: string, options: WordOptions): string[] {
  const words: string[] = [];
  const bare = text.normalize("NFD").replace(/\p{M}+/gu, "");
  for (const [found] of bare.matchAll(wordPattern)) {
    if (options.caseBug && /\p{Lu}/u.test(found)) words.push(unknownWord);
    else if (cjk.test(found)) words.push(...cjkWords(found.toLowerCase(), options.cjkUnknown));
    else words.push(found.toLowerCase());
  }
  return words;
}

function* cjkWords(mixed: string, unknown: boolean): Generator<string> {
  let rest = "";
  for (const character of mixed) {
    if (!cjk.test(character)) {
      rest += character;
      continue;
    }
    if (rest !== "") yield rest;
    rest = "";
    yield unknown ? unknownWord : character;
  }
  if (rest !== "") yield rest;
}

/** Removes -ing, -ed, -es, -s and a final -e but leaves at least three letters: deploying, deployed -> deploy. */
export function stem(word: string): string {
  let cut = word;
  if (word.endsWith("ies") && word.length > 5) return `${word.slice(0, -3)}y`;
  for (const ending of ["ing", "ed", "es", "s"]) {
    if (!word.endsWith(ending) || word.length - ending.length < 3 || word.endsWith("ss")) continue;
    cut = word.slice(0, -ending.length);
    if (ending === "ing" || ending === "ed") cut = cut.replace(/([bdgmnprt])\1$/, "$1");
    break;
  }
  return cut.length > 3 && cut.endsWith("e") ? cut.slice(0, -1) : cut;
}

/** Words that say little about the topic of a text. */
export const stopWords: ReadonlySet<string> = new Set(
  (
    "a about after all also am an and any are as at be been before but by can could did do does each for from " +
    "had has have he her his how i if in into is it its just me more most my no not of on or our out over she " +
    "should so some such than that the their them then there these they this those to up us very was we were " +
    "what when where which while who whose why will with would you your"
  ).split(" "),
);

const groupByStem = new Map<string, number>(
  synonymGroups.flatMap((group, index) => group.map((word) => [stem(word), index] as const)),
);

/** Returns the number of a stem's synonym group. */
export function synonymGroupOf(wordStem: string): number | undefined {
  return groupByStem.get(wordStem);
}
