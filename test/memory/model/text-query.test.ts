import fc from "fast-check";
import { expect, test } from "vitest";
import { MAX_OPERATOR_LENGTH, parseTextQuery } from "../../../src/memory/model/text-query.ts";

test.each([
  ["plain words", "plain words", [], []],
  ['a "quoted phrase" here', "a  quoted phrase  here", ["quoted phrase"], []],
  ["“curly quotes” here", "curly quotes  here", ["curly quotes"], []],
  ["cats -dogs", "cats", [], ["dogs"]],
  ['cats -"big dogs"', "cats", [], ["big dogs"]],
  ["-a -b c", "c", [], ["a", "b"]],
  ["well-known 5-10", "well-known 5-10", [], []],
  ["a - b -- c --d", "a - b -- c --d", [], []],
  ['"not closed', '"not closed', [], []],
  ['15" screen and 17" screen', '15" screen and 17" screen', [], []],
  ['"" -""', '"" -""', [], []],
  ["- -", "- -", [], []],
])("%s is read", (query, words, required, excluded) => {
  expect(parseTextQuery(query)).toEqual({ words, required, excluded });
});

test("a long query is a text without operators", () => {
  const query = `${"word ".repeat(MAX_OPERATOR_LENGTH / 5)}"a phrase" -word`;
  expect(parseTextQuery(query)).toEqual({ words: query, required: [], excluded: [] });
});

test.each(['When did Jon read "The Lean Startup"?', "thrust -dash papers ?", "¿“hola”？ "])(
  "the question %s has no operators",
  (query) => {
    expect(parseTextQuery(query)).toEqual({ words: query, required: [], excluded: [] });
  },
);

test("any query is read, and what it excludes is not searched for", () => {
  const piece = fc.oneof(
    fc.string({ unit: "binary", maxLength: 5 }),
    fc.constantFrom('"', "-", " ", "“", "”", "cat"),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
      const { words, required, excluded } = parseTextQuery(`${pieces.join("")} -zebra`);
      expect(words).not.toContain("zebra");
      expect(excluded).toContain("zebra");
      for (const phrase of required) expect(words).toContain(phrase.trim());
    }),
  );
});
