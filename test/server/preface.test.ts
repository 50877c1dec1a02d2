import fc from "fast-check";
import { expect, it } from "vitest";
import { versionOf } from "../../src/server/preface.ts";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
const anything = fc.uint8Array({ maxLength: 40 });

it("recognizes HTTP/2 by its preface, regardless of what follows", () => {
  fc.assert(
    fc.property(anything, (rest) => {
      expect(versionOf(Buffer.concat([preface, rest]))).toBe("http2");
    }),
  );
});

it("is undecided within the preface only, and never decides otherwise later", () => {
  fc.assert(
    fc.property(fc.nat(preface.length), anything, (shared, rest) => {
      const bytes = Buffer.concat([preface.subarray(0, shared), rest]);
      const decisions = Array.from(bytes, (_, at) => versionOf(bytes.subarray(0, at + 1)));
      const first = decisions.find((decision) => decision !== undefined);
      const isPrefix = preface.subarray(0, bytes.length).equals(bytes);
      expect(first).toBe(
        isPrefix && bytes.length < preface.length ? undefined : (versionOf(bytes) ?? "none"),
      );
      expect(new Set(decisions.filter((decision) => decision !== undefined)).size).toBeLessThan(2);
    }),
  );
});
