import { callOf, encodeMessages, protocols } from "../call.ts";
import type { Dice } from "../dice.ts";
import type { Kind } from "../kind.ts";
import { makeMessage } from "../messages.ts";
import { isEndless, pickMethod } from "../methods.ts";

/** Random bytes as messages, and messages with bytes removed, changed, duplicated or of another wire type. */
export const protobufBytes: Kind = {
  name: "protobuf bytes",
  weight: 15,
  attempt(dice, { http }) {
    const method = pickMethod(dice);
    const protocol = dice.pick(protocols.filter(({ json }) => !json));
    const message = makeMessage(method.input, { dice, bendPercent: 5 });
    const good = encodeMessages(method, [message], false)?.[0] ?? new Uint8Array();
    const { name, bend } = dice.pick(bends);
    const call = callOf(method, protocol, [bend(good, dice)]);
    return {
      title: `${name} for ${method.name} by ${protocol.name}`,
      expects: "answered",
      send: () => http.send({ ...call, ...(isEndless(call.path) ? { leaves: "at-answer" } : {}) }),
    };
  },
};

interface Bend {
  readonly name: string;
  readonly bend: (good: Uint8Array, dice: Dice) => Uint8Array;
}

const bends: readonly Bend[] = [
  { name: "random bytes", bend: (_, dice) => dice.bytes(dice.pick([1, 2, 7, 40, 1_000])) },
  { name: "a message cut short", bend: (good, dice) => good.subarray(0, dice.between(0, good.length)) },
  { name: "a message with other bits", bend: flip },
  { name: "a message twice", bend: (good) => Buffer.concat([good, good]) },
  {
    name: "a message and random bytes",
    bend: (good, dice) => Buffer.concat([good, dice.bytes(dice.between(1, 9))]),
  },
  { name: "other wire types", bend: (_, dice) => otherWireTypes(dice) },
  {
    name: "a length without end",
    bend: (good, dice) =>
      Buffer.concat([good, Buffer.from([dice.pick([0x0a, 0x12, 0x3a]), 255, 255, 255, 255, 15])]),
  },
  { name: "an endless varint", bend: (good) => Buffer.concat([good, Buffer.alloc(12, 0x80)]) },
  { name: "open groups", bend: (_, dice) => Buffer.alloc(dice.pick([1, 100, 5_000]), 0x0b) },
  { name: "not UTF-8", bend: () => Uint8Array.of(0x0a, 4, 0xc0, 0x80, 0xed, 0xa0) },
];

function flip(good: Uint8Array, dice: Dice): Uint8Array {
  const bytes = Uint8Array.from(good);
  for (let times = dice.between(1, 4); times > 0 && bytes.length > 0; times--) {
    const at = dice.between(0, bytes.length - 1);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << dice.between(0, 7));
  }
  return bytes;
}

/** Creates fields with low numbers and any wire type, including invalid ones. */
function otherWireTypes(dice: Dice): Uint8Array {
  const parts = Array.from({ length: dice.between(1, 8) }, () => {
    const tag = (dice.between(1, 15) << 3) | dice.between(0, 7);
    return Uint8Array.of(tag, ...dice.bytes(dice.pick([1, 2, 4, 8])).map((byte) => byte & 0x7f));
  });
  return Buffer.concat(parts);
}
