import fc from "fast-check";
import { expect, it } from "vitest";
import { parseExportLine } from "../../src/cli/memories/export-line.ts";

const kinds = ["blank", "header", "record", "summary", "invalid"];

it("classifies any line without throwing", () => {
  const line = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.json(),
    fc.jsonValue().map((value) => JSON.stringify({ record: { memory: value } })),
    fc.jsonValue().map((value) => JSON.stringify({ record: value, header: value })),
  );
  fc.assert(
    fc.property(line, (text) => {
      expect(kinds).toContain(parseExportLine(text).kind);
    }),
  );
});

it.each([
  ["lists", "[", "]"],
  ["objects", '{"a":', "}"],
])("rejects deeply nested %s, with and without an unpaired surrogate", (_name, open, close) => {
  const deep = (inner: string) => open.repeat(20_000) + inner + close.repeat(20_000);
  expect(parseExportLine(`{"record":${deep('"\\ud800"')}}`).kind).toBe("invalid");
  expect(parseExportLine(`{"record":${deep("1")}}`).kind).toBe("invalid");
});
