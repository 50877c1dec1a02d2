import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseTextQuery } from "../../../src/memory/model/text-query.ts";
import { createHighlighter, SNIPPET_LENGTH } from "../../../src/memory/search/snippet.ts";

const filler = "nothing to see here, move along ".repeat(40);
const find = (query: string, text: string, start = 0) =>
  createHighlighter(parseTextQuery(query).words)({ text, start, end: start + [...text].length });

describe("a snippet", () => {
  test.each([
    ["the word itself", "pears", "two ripe pears on the table"],
    ["another form of it", "studying", "she studies at night"],
    ["another case", "paris", "a week in PARIS again"],
    ["a word without its accents", "jose", "a letter from José"],
    ["a number", "4711", "the order number 4711 was sent"],
    ["an identifier with separators", "ERR_SSL_PROTOCOL", "failed with ERR_SSL_PROTOCOL at once"],
    ["a script without spaces", "東京", "来週は東京に行きます"],
    ["what is quoted", '"ripe pears"', "two ripe pears on the table"],
  ])("shows %s", (_name, query, sentence) => {
    const snippet = find(query, `${filler}${sentence}. ${filler}`);
    expect(snippet?.text).toContain(sentence);
  });

  test("shows most of the words together, not the first of them", () => {
    const text = `an apple. ${filler} an apple tart with cinnamon. ${filler} cinnamon again. ${filler}`;
    expect(find("apple cinnamon tart", text)?.text).toContain("an apple tart with cinnamon");
  });

  test("shows the rare word where words of the query are frequent", () => {
    const text = `${filler}${"the plan of the day. ".repeat(30)}${filler} zanzibar ${filler}`;
    expect(find("the plan of zanzibar", text)?.text).toContain("zanzibar");
  });

  test("does not take a number for another, nor a longer word for a form of a shorter one", () => {
    expect(find("4711", `${filler} 4712 47110 ${filler}`)).toBeUndefined();
    expect(find("internet", `${filler} international ${filler}`)).toBeUndefined();
  });

  test("takes no long time where every word fits", () => {
    const text = "的".repeat(65_536);
    const begin = performance.now();
    expect(find("的", text)).toMatchObject({ start: 0, end: 300 });
    expect(performance.now() - begin).toBeLessThan(5_000);
  });

  test("does not show what is excluded", () => {
    expect(find("-pears", `${filler} pears ${filler}`)).toBeUndefined();
  });

  test("is the beginning where the words are there", () => {
    const text = `an apple ${filler}`;
    expect(find("apple", text, 7)).toEqual({ text: text.slice(0, 300), start: 7, end: 307 });
  });

  test("begins with a word", () => {
    const snippet = find("zanzibar", `${filler} zanzibar ${filler}`);
    expect(filler.split(" ")).toContain(snippet?.text.split(" ")[0]);
    expect(snippet?.text).toHaveLength(SNIPPET_LENGTH);
  });

  test("is a piece of the content wherever that has a word, counted in code points", () => {
    const piece = fc.constantFrom("apple", "😀", "é", " ", "word ", "東京", "\n", "x".repeat(90), "🙂🙂🙂 ");
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), fc.nat(1_000), (pieces, start) => {
        const content = pieces.join("");
        const snippet = find("apple 東", content, start);
        if (/(^|[^\p{L}\p{N}])apple($|[^\p{L}\p{N}])|東/u.test(content)) expect(snippet).toBeDefined();
        if (snippet === undefined) return;
        const { text, start: from, end } = snippet;
        expect([...content].slice(from - start, end - start).join("")).toBe(text);
        expect([...text].length).toBeLessThanOrEqual(SNIPPET_LENGTH);
        expect(text).toMatch(/apple|東/);
      }),
    );
  });
});
