import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseArray, vectorBytes, wireValueFrom } from "../../../src/storage/database/wire-values.ts";

describe("wire values", () => {
  it("write an embedding as pgvector's binary form", () => {
    expect([...vectorBytes(new Float32Array([1, -2]))]).toEqual([
      0, 2, 0, 0, 0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0,
    ]);
  });

  it("read back every array of texts that they write", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "grapheme" })), (texts) => {
        expect(parseArray(String(wireValueFrom(texts)), (text) => text)).toEqual(texts);
      }),
    );
  });

  it.each([
    ["{}", []],
    ["{NULL}", [null]],
    ['{"NULL"}', ["NULL"]],
    ["{a,b c}", ["a", "b c"]],
    [
      "{{1,2},{3,NULL}}",
      [
        ["1", "2"],
        ["3", null],
      ],
    ],
    ["[0:1]={1,2}", ["1", "2"]],
  ])("read the array %s", (text, expected) => {
    expect(parseArray(text, (element) => element)).toEqual(expected);
  });

  it.each(["{", '{"a', "{a"])("refuse the torn array %s", (text) => {
    expect(() => parseArray(text, (element) => element)).toThrow("unterminated");
  });
});
