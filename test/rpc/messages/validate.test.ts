import fc from "fast-check";
import { expect, it } from "vitest";
import { LIMITS } from "../../../src/memory/model/limits.ts";
import type { JsonValue } from "../../../src/memory/model/memory.ts";
import {
  bytesAtMost,
  charactersAtMost,
  domainName,
  memoryId,
  metadata,
  quote,
  storableText,
  tags,
} from "../../../src/rpc/messages/validate.ts";

const text = fc.string({ unit: "binary", maxLength: 80 });

it("counts characters as code points and bytes as UTF-8, and rejects one more than allowed", () => {
  fc.assert(
    fc.property(text, (value) => {
      const characters = Array.from(value).length;
      const bytes = Buffer.from(value).length;
      expect(charactersAtMost(characters)(value)).toBeUndefined();
      expect(bytesAtMost(bytes)(value)).toBeUndefined();
      fc.pre(value !== "");
      expect(charactersAtMost(characters - 1)(value)).toContain(`has ${characters}`);
      expect(bytesAtMost(bytes - 1)(value)).toContain(`has ${bytes}`);
    }),
  );
});

it("accepts only texts that round-trip through UTF-8", () => {
  fc.assert(
    fc.property(text, fc.constantFrom("", "\0", "\ud800", "\udc00"), (value, odd) => {
      const whole = value + odd;
      const isSame = Buffer.from(whole).toString() === whole && !whole.includes("\0");
      expect(storableText(whole) === undefined).toBe(isSame);
    }),
  );
});

it("accepts only names and ids that never need quoting", () => {
  fc.assert(
    fc.property(fc.oneof(text, fc.stringMatching(/^[A-Za-z0-9_.:-]{0,60}$/)), (value) => {
      if (domainName(value) === undefined) expect(value).toMatch(/^([a-z][a-z0-9_-]{0,39})?$/);
      if (memoryId(value) === undefined) expect(value).toMatch(/^[A-Za-z0-9._:-]{0,50}$/);
    }),
  );
});

it("accepts only metadata and tags that round-trip through JSON", () => {
  fc.assert(
    fc.property(fc.dictionary(text, fc.jsonValue()), fc.array(text), (generated, list) => {
      const value = generated as Readonly<Record<string, JsonValue>>;
      if (metadata(value) === undefined) {
        const written = JSON.stringify(value);
        expect(Buffer.byteLength(written)).toBeLessThanOrEqual(LIMITS.metadataBytes);
        expect(JSON.stringify(JSON.parse(Buffer.from(written).toString()))).toBe(written);
      }
      if (tags(list) === undefined) expect(Buffer.from(list.join("\0")).toString()).toBe(list.join("\0"));
    }),
  );
});

it("quotes any text on one short line", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 500 }), (value) => {
      expect(quote(value)).not.toMatch(/[\n\r\0]/);
      expect(quote(value).isWellFormed()).toBe(true);
      expect(quote(value).length).toBeLessThan(6 * 60 + 3);
    }),
  );
});
