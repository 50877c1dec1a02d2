import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chunkText, textOfChunk } from "../../../src/memory/embed/chunk.ts";

function cut(content: string, maxLength: number): string[] {
  return chunkText(content, maxLength).map((chunk) => textOfChunk(content, chunk));
}

const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

describe("chunkText", () => {
  const examples: readonly {
    name: string;
    content: string;
    maxLength: number;
    expected: readonly string[];
  }[] = [
    { name: "makes one empty chunk of an empty text", content: "", maxLength: 10, expected: [""] },
    {
      name: "keeps a text that fits in one chunk",
      content: "a\n\nb c. D",
      maxLength: 9,
      expected: ["a\n\nb c. D"],
    },
    {
      name: "cuts after a paragraph before anything later in the chunk",
      content: "One two.\n\nThree.\nFour five six",
      maxLength: 18,
      expected: ["One two.\n\n", "Three.\nFour five ", "six"],
    },
    {
      name: "keeps blank lines and CRLF together at the end of their paragraph",
      content: "first part\r\n \t\r\n\r\nsecond part",
      maxLength: 20,
      expected: ["first part\r\n \t\r\n\r\n", "second part"],
    },
    {
      name: "cuts after a line where there is no paragraph",
      content: "first line\nsecond. Third",
      maxLength: 20,
      expected: ["first line\n", "second. Third"],
    },
    {
      name: "cuts after a sentence where there is no line",
      content: "It rained. We stayed at home",
      maxLength: 18,
      expected: ["It rained. ", "We stayed at home"],
    },
    {
      name: "takes no full stop inside a number or a lower-case sequel for the end of a sentence",
      content: "version 1.2 vs. three hundred",
      maxLength: 20,
      expected: ["version 1.2 vs. ", "three hundred"],
    },
    {
      name: "cuts Chinese after its full stop",
      content: "今天下雨了。我们在家里看书",
      maxLength: 10,
      expected: ["今天下雨了。", "我们在家里看书"],
    },
    {
      name: "cuts after a space where there is no sentence",
      content: "alpha beta gamma delta",
      maxLength: 12,
      expected: ["alpha beta ", "gamma delta"],
    },
    { name: "cuts Thai between words", content: "สวัสดีชาวโลก", maxLength: 8, expected: ["สวัสดี", "ชาวโลก"] },
    {
      name: "cuts hard where there is no word",
      content: "aaaaaaaaaa",
      maxLength: 4,
      expected: ["aaaa", "aaaa", "aa"],
    },
    {
      name: "ignores a paragraph break in the first half of a chunk",
      content: "a\n\nbbbb cccc dddd",
      maxLength: 14,
      expected: ["a\n\nbbbb cccc ", "dddd"],
    },
    {
      name: "keeps a family of emoji whole",
      content: "aaaa👩‍👩‍👧‍👦bbbb",
      maxLength: 12,
      expected: ["aaaa", "👩‍👩‍👧‍👦", "bbbb"],
    },
    { name: "keeps flags whole", content: "🇩🇪🇫🇷🇮🇹", maxLength: 6, expected: ["🇩🇪", "🇫🇷", "🇮🇹"] },
    {
      name: "splits one character that is longer than a chunk, but not its surrogate pairs",
      content: "👩‍👩‍👧‍👦",
      maxLength: 4,
      expected: ["👩‍", "👩‍", "👧‍", "👦"],
    },
  ];

  it.each(examples)("$name", ({ content, maxLength, expected }) => {
    expect(cut(content, maxLength)).toEqual(expected);
  });

  it.each([1, 0, -5, 2.5, Number.NaN, Number.POSITIVE_INFINITY])(
    "refuses a maximum length of %d",
    (maxLength) => {
      expect(() => chunkText("text", maxLength)).toThrow(RangeError);
    },
  );

  const piece = fc.oneof(
    { weight: 4, arbitrary: fc.string({ unit: "grapheme", maxLength: 12 }) },
    { weight: 4, arbitrary: fc.string({ unit: "grapheme-composite", maxLength: 12 }) },
    { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 12 }) },
    // Lone surrogates and surrogates that pair up by chance.
    {
      weight: 1,
      arbitrary: fc.array(fc.integer({ min: 0xd7f0, max: 0xe00f }), { maxLength: 6 }).map(stringOfUnits),
    },
    {
      weight: 6,
      arbitrary: fc.constantFrom(
        "\n",
        "\n\n",
        "\r\n",
        "\r\n \r\n",
        "\r",
        ". ",
        " ",
        "word",
        "字。",
        "🇩🇪",
        "👩‍👧",
        "\u0301",
        "ไทย",
      ),
    },
  );
  const text = fc.array(piece, { maxLength: 80 }).map((pieces) => pieces.join(""));
  const maxLength = fc.integer({ min: 2, max: 60 });

  it("covers every text without gap, overlap or a chunk over the maximum", () => {
    fc.assert(
      fc.property(text, maxLength, (content, max) => {
        const chunks = chunkText(content, max);
        expect(chunks.map((chunk) => chunk.index)).toEqual(chunks.map((_, index) => index));
        expect(chunks.map((chunk) => chunk.start)).toEqual([
          0,
          ...chunks.slice(0, -1).map((chunk) => chunk.end),
        ]);
        expect(chunks.at(-1)?.end).toBe(content.length);
        expect(cut(content, max).join("")).toBe(content);
        for (const { start, end } of chunks) {
          expect(end - start).toBeLessThanOrEqual(max);
          if (content !== "") expect(end).toBeGreaterThan(start);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("never splits a surrogate pair", () => {
    fc.assert(
      fc.property(text, maxLength, (content, max) => {
        for (const { end } of chunkText(content, max).slice(0, -1)) {
          expect(content.codePointAt(end - 1)).toBe(content.charCodeAt(end - 1));
        }
      }),
      { numRuns: 500 },
    );
  });

  it("never splits a character that fits into a chunk", () => {
    fc.assert(
      fc.property(text, maxLength, (content, max) => {
        const cuts = new Set(chunkText(content, max).map((chunk) => chunk.start));
        for (const { index, segment } of graphemes.segment(content)) {
          if (segment.length > max) continue;
          for (let inside = index + 1; inside < index + segment.length; inside++) {
            expect(cuts).not.toContain(inside);
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it("cuts the same text the same way again", () => {
    fc.assert(
      fc.property(text, maxLength, (content, max) => {
        expect(chunkText(content, max)).toEqual(chunkText(content, max));
      }),
    );
  });

  it.each([
    { name: "a line of a million characters", content: "lorem ipsum dolor ".repeat(55_556) },
    { name: "200,000 characters without a space", content: "x".repeat(200_000) },
    { name: "200,000 characters of one accent", content: "\u0301".repeat(200_000) },
    { name: "200,000 line ends", content: "\n".repeat(200_000) },
    { name: "200,000 spaces", content: " ".repeat(200_000) },
  ])("fills chunks of $name to more than half", ({ content }) => {
    const chunks = chunkText(content, 2_000);
    expect(chunks.length).toBeLessThanOrEqual(Math.ceil(content.length / 1_000));
    expect(chunks.at(-1)?.end).toBe(content.length);
  });
});

function stringOfUnits(units: readonly number[]): string {
  return String.fromCharCode(...units);
}
