import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { MemorySchema } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { expect, test } from "vitest";
import { structBytes, textBytes } from "../../../src/memory/read/message-size.ts";

/** What protobuf makes of metadata: tag and length of the field are not part of the value. */
function encoded(metadata: Parameters<typeof structBytes>[0]): number {
  const message = create(MemorySchema, { metadata: JSON.parse(JSON.stringify(metadata)) });
  return toBinary(MemorySchema, message).length;
}

test("metadata have the size that protobuf gives them", () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string({ unit: "grapheme" }), fc.jsonValue({ stringUnit: "grapheme" })),
      (metadata) => {
        const inner = structBytes(metadata as Parameters<typeof structBytes>[0]);
        const head = inner < 128 ? 2 : inner < 16_384 ? 3 : 4;
        expect(head + inner).toBe(encoded(metadata as Parameters<typeof structBytes>[0]));
      },
    ),
  );
});

test.each([127, 128, 16_383, 16_384, 2_097_151, 2_097_152])(
  "a text of %d characters has its own and its length",
  (length) => {
    const message = create(MemorySchema, { content: "x".repeat(length) });
    expect(textBytes(message.content)).toBe(toBinary(MemorySchema, message).length);
  },
);
