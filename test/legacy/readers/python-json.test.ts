import { describe, expect, test } from "vitest";
import { parsePythonJson, pythonFloat, pythonJson } from "../../../src/legacy/readers/python-json.ts";
import { FIXTURES, readTruth } from "../fixtures.ts";

describe("replaces and names what JSON and PostgreSQL cannot store", () => {
  test.each<{ source: string; value: unknown; changes: string[] }>([
    { source: '{"a": [1, 2.5, true, null, "x"]}', value: { a: [1, 2.5, true, null, "x"] }, changes: [] },
    { source: " [ ] ", value: [], changes: [] },
    { source: '{"a": NaN}', value: { a: "NaN" }, changes: ["not-a-number"] },
    { source: "[Infinity, -Infinity]", value: ["Infinity", "-Infinity"], changes: ["not-a-number"] },
    { source: "9007199254740993", value: "9007199254740993", changes: ["big-integer"] },
    { source: "9007199254740992", value: 9007199254740992, changes: [] },
    { source: `-1${"0".repeat(400)}`, value: `-1${"0".repeat(400)}`, changes: ["big-integer"] },
    { source: "1e999", value: "1e999", changes: ["big-integer"] },
    { source: '"a\\u0000b"', value: "a\ufffdb", changes: ["nul"] },
    { source: '"\\ud83d"', value: "\ufffd", changes: ["half-surrogate"] },
    { source: '"\\ud83d\\ude00"', value: "😀", changes: [] },
    { source: '{"\\udead": 1}', value: { "\ufffd": 1 }, changes: ["half-surrogate"] },
    { source: '{"a": 1, "a": 2}', value: { a: 2 }, changes: ["duplicate-key"] },
    { source: '{"a": {"b": {"c": [NaN]}}}', value: { a: { b: { c: "[NaN]" } } }, changes: ["too-deep"] },
    { source: '{"": ""}', value: { "": "" }, changes: [] },
  ])("$source", ({ source, value, changes }) => {
    const read = parsePythonJson(source, 3);
    expect(read.value).toEqual(value);
    expect([...read.changes]).toEqual(changes);
  });
});

test("keeps __proto__ as an own key", () => {
  const { value } = parsePythonJson('{"__proto__": {"polluted": 1}}', 16);
  expect(JSON.stringify(value)).toBe('{"__proto__":{"polluted":1}}');
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
});

test.each([
  "",
  "{",
  '{"a"}',
  '{"a": 1,}',
  "[1 2]",
  '"abc',
  '"\\x"',
  '"\\u12"',
  "nan",
  "01",
  "{} {}",
  "[".repeat(100_000),
])("rejects %j", (source) => {
  expect(() => parsePythonJson(source, 16)).toThrow(SyntaxError);
});

/** The results of `repr` in Python 3.12. */
test.each([
  [0, "0.0"],
  [-0, "-0.0"],
  [1, "1.0"],
  [17.5, "17.5"],
  [0.1, "0.1"],
  [1e15, "1000000000000000.0"],
  [1e16, "1e+16"],
  [1.5e300, "1.5e+300"],
  [0.0001, "0.0001"],
  [0.00012345, "0.00012345"],
  [0.00001, "1e-05"],
  [5e-324, "5e-324"],
  [1749522937.4564712, "1749522937.4564712"],
])("writes the float %d as Python does", (value, text) => {
  expect(pythonFloat(value)).toBe(text);
});

test("reproduces every metadata text of the fixtures", async () => {
  let texts = 0;
  for (const fixture of FIXTURES) {
    for (const { metadata_text } of (await readTruth(fixture)).memories) {
      const { text, value } = parsePythonJson(metadata_text, 16);
      expect(text).toBe(metadata_text);
      // Integers from direct callers of the library become floats.
      if (!/: \d+[,}\]]/.test(metadata_text)) expect(pythonJson(value)).toBe(metadata_text);
      texts++;
    }
  }
  expect(texts).toBeGreaterThan(300);
});
