import { ScalarType } from "@bufbuild/protobuf";
import type { Dice } from "./dice.ts";

// Nothing here may look like SQL, a path or a stack trace: an answer that quotes it would be reported as a leak.
const oddTexts = [
  "",
  " ",
  "\0",
  "a\0b",
  "'",
  '"',
  "''; --",
  "%",
  "_",
  "../../test",
  "../..",
  "\\",
  "$1",
  "{{x}}",
  "\r\nx: y",
  "null",
  "undefined",
  "__proto__",
  "constructor",
  "default_memories",
  "a_chunks",
  "1e999",
  "-1",
  "\u202eabc",
  "\ufeff",
  "\uffff",
  "👩‍👩‍👧‍👦".repeat(20),
  "e\u0301".repeat(64),
  "a & | ! <-> :* ((",
  "((((((((((",
  'or "and not',
  "!!!",
  "ａ",
  "ß".repeat(41),
  "A",
  "-a",
  "a-",
  ":".repeat(50),
];

const lengths = [40, 41, 50, 51, 64, 65, 255, 256, 1_024, 1_025, 3_000, 8_192, 8_193, 65_536, 65_537];

/** Returns a text that breaks a rule or that careless code mishandles. */
export function hostileText(dice: Dice): string {
  if (dice.chance(70)) return dice.pick(oddTexts);
  const unit = dice.pick(["x", "é", "漢", "a ", "word. ", "\n", "😀"]);
  if (dice.chance(2)) return unit.repeat(dice.pick([200_000, 524_289, 1_048_577]));
  return unit.repeat(dice.pick(lengths));
}

const int32s = [0, -1, 1, 2, 1_000, 1_001, 10_000, 10_001, 2 ** 31 - 1, -(2 ** 31), 65_536];
const uint32s = [0, 1, 2 ** 32 - 1];
const int64s = [0n, -1n, 1n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n), 253_402_300_800n, -62_135_596_801n];
const uint64s = [0n, 1n, 2n ** 64n - 1n];
const doubles = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  -0,
  5e-324,
  1.7e308,
  -1,
  1.0000001,
  1e15,
];
const floats = [Number.NaN, Number.POSITIVE_INFINITY, -0, 1e-45, 3e38, -1];

/** Returns an edge value of a scalar type. */
export function hostileScalar(type: ScalarType, dice: Dice): string | number | bigint | boolean | Uint8Array {
  switch (type) {
    case ScalarType.STRING:
      return hostileText(dice);
    case ScalarType.BYTES:
      return dice.bytes(dice.pick([0, 1, 3, 4, 100, 8_000]));
    case ScalarType.BOOL:
      return dice.chance(50);
    case ScalarType.DOUBLE:
      return dice.pick(doubles);
    case ScalarType.FLOAT:
      return dice.pick(floats);
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return dice.pick(uint32s);
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return dice.pick(int64s);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return dice.pick(uint64s);
    default:
      return dice.pick(int32s);
  }
}

/** Numbers that no enum of the contract has, and 0, which is UNSPECIFIED. */
export const hostileEnumNumbers: readonly number[] = [0, -1, 99, 2 ** 31 - 1, -(2 ** 31)];
