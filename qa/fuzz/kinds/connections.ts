import type { Dice } from "../dice.ts";
import type { Kind } from "../kind.ts";
import { fieldBlock, frame, preface, frameTypes as types } from "./http2-frames.ts";

/** Connections that are opened and abandoned: without a byte, in the middle of a frame, or with half a call. */
export const connections: Kind = {
  name: "slow connections",
  weight: 2,
  attempt(dice, { raw }) {
    const { name, bytes } = dice.pick(beginnings)(dice);
    return { title: name, expects: "any", send: () => raw.hold(bytes) };
  },
};

const hello = Buffer.concat([preface, frame(types.settings, 0, 0)]);
const head = fieldBlock([
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/memoryservice.v1.MemoryService/Search"],
  [":authority", "localhost"],
  ["content-type", "application/grpc"],
]);

const beginnings: readonly ((dice: Dice) => { readonly name: string; readonly bytes: Buffer })[] = [
  () => ({ name: "nothing", bytes: Buffer.alloc(0) }),
  (dice) => ({ name: "part of a preface", bytes: preface.subarray(0, dice.between(1, preface.length)) }),
  () => ({
    name: "part of a head",
    bytes: Buffer.from("POST /memoryservice.v1.MemoryService/Search HTTP/1.1\r\nhost: "),
  }),
  () => ({
    name: "a head, and a body that never comes",
    bytes: Buffer.from(
      "POST /memoryservice.v1.MemoryService/Search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
    ),
  }),
  () => ({ name: "an idle session", bytes: hello }),
  () => ({ name: "part of a frame", bytes: Buffer.concat([hello, Buffer.from([0, 0, 50, 1])]) }),
  () => ({ name: "a head without its end", bytes: Buffer.concat([hello, frame(types.headers, 0, 1, head)]) }),
  () => ({
    name: "a call without its body",
    bytes: Buffer.concat([
      hello,
      frame(types.headers, 4, 1, head),
      frame(types.data, 0, 1, Buffer.from([0, 0, 0, 1, 0, 10])),
    ]),
  }),
];
