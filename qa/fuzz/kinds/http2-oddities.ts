import { callOf, encodeMessages, protocols } from "../call.ts";
import type { Dice } from "../dice.ts";
import type { Kind } from "../kind.ts";
import { makeMessage } from "../messages.ts";
import { pickUnary } from "../methods.ts";
import { errorName, fieldBlock, frame, framesOf, preface, frameTypes as types } from "./http2-frames.ts";

/** Invalid or unusual HTTP/2, frame by frame: prefaces, settings, floods, heads, resets. */
export const http2Oddities: Kind = {
  name: "HTTP/2 oddities",
  weight: 8,
  attempt(dice, { raw }) {
    const { name, frames, start = hello } = dice.pick(oddities)(dice);
    const reset = dice.chance(10);
    return {
      title: `${name}${reset ? ", then a reset" : ""}`,
      expects: "any",
      // The answer to the final ping shows that the server has read everything before it.
      send: () => raw.send([start, ...frames, ping(mark)], { describe, isComplete: isOver, reset }),
    };
  },
};

interface Oddity {
  readonly name: string;
  readonly frames: readonly Uint8Array[];
  readonly start?: Buffer;
}

const mark = Buffer.from("the end.");
const hello = Buffer.concat([preface, frame(types.settings, 0, 0)]);

function isOver(received: Buffer): boolean {
  const all = [...framesOf(received)];
  return all.some(
    ({ type, payload }) => (type === types.ping && payload.equals(mark)) || type === types.goAway,
  );
}

function describe(received: Buffer): string {
  const names = new Set<string>();
  for (const { type, payload } of framesOf(received)) {
    if (type === types.goAway) names.add(`GOAWAY ${errorName(payload.readUInt32BE(4))}`);
    else if (type === types.reset) names.add(`RST ${errorName(payload.readUInt32BE(0))}`);
    else if (type === types.headers) names.add("an answer");
  }
  if (names.size > 0) return [...names].sort().join(", ");
  return received.toString("latin1", 0, 8) === "HTTP/1.1"
    ? `http ${received.toString("latin1", 9, 12)}`
    : "no answer";
}

const ping = (payload: Uint8Array) => frame(types.ping, 0, 0, payload);

const endStream = 1;
const endHeaders = 4;

type Fields = readonly (readonly [string, string])[];

function headOf(path: string, more: Fields = []): Fields {
  return [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ...more,
  ];
}

/** Creates a valid call: its path, and its message in a gRPC frame. */
function goodCall(dice: Dice) {
  const method = pickUnary(dice);
  const [protocol] = protocols;
  if (protocol === undefined) throw new Error("no protocol");
  const message = makeMessage(method.input, { dice, bendPercent: 0 });
  return callOf(method, protocol, encodeMessages(method, [message], false) ?? []);
}

function call(dice: Dice, stream: number): Buffer[] {
  const { path, body } = goodCall(dice);
  return [
    frame(types.headers, endHeaders, stream, fieldBlock(headOf(path))),
    frame(types.data, endStream, stream, body.subarray(0, 16_000)),
  ];
}

const head = (fields: Fields, stream = 1, flags = endHeaders | endStream) =>
  frame(types.headers, flags, stream, fieldBlock(fields));

function setting(id: number, value: number): Buffer {
  const bytes = Buffer.alloc(6);
  bytes.writeUInt16BE(id);
  bytes.writeUInt32BE(value >>> 0, 2);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

function times<T>(count: number, make: (n: number) => T): T[] {
  return Array.from({ length: count }, (_, n) => make(n));
}

const oddities: readonly ((dice: Dice) => Oddity)[] = [
  (dice) => {
    const bent = Buffer.from(preface);
    const at = dice.between(0, bent.length - 1);
    bent[at] = (bent[at] ?? 0) ^ (1 << dice.between(0, 7));
    return { name: "a corrupted preface", start: bent, frames: [frame(types.settings, 0, 0)] };
  },
  (dice) => ({ name: "no settings", start: preface, frames: call(dice, 1) }),
  (dice) => ({
    name: "random bytes after the preface",
    start: preface,
    frames: [dice.bytes(dice.pick([9, 50, 20_000]))],
  }),
  (dice) => ({
    name: "random frames",
    frames: times(dice.between(1, 10), () =>
      frame(
        dice.between(0, 12),
        dice.between(0, 255),
        dice.pick([0, 1, 2, 3, 2 ** 31]),
        dice.bytes(dice.between(0, 40)),
      ),
    ),
  }),
  (dice) => ({
    name: "unknown frames",
    frames: [
      ...times(dice.pick([1, 1_000]), () => frame(0xfe, 0xff, dice.pick([0, 1, 9]), dice.bytes(8))),
      ...call(dice, 1),
    ],
  }),
  (dice) => ({
    name: "odd settings",
    frames: [
      frame(
        types.settings,
        0,
        0,
        Buffer.concat([
          setting(
            dice.pick([1, 2, 3, 4, 5, 6, 8, 9, 99]),
            dice.pick([0, 1, 100, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 16_383]),
          ),
        ]),
      ),
      ...call(dice, 1),
    ],
  }),
  (dice) => ({
    name: "a flood of settings",
    frames: times(dice.pick([10, 2_000]), () => frame(types.settings, 0, 0, setting(3, 1))),
  }),
  (dice) => ({
    name: "a flood of pings",
    frames: times(dice.pick([10, 5_000]), () => ping(Buffer.alloc(8))),
  }),
  () => ({ name: "settings of another length", frames: [frame(types.settings, 0, 0, Buffer.alloc(5))] }),
  (dice) => ({
    name: "a frame longer than allowed",
    frames: [frame(dice.pick([0, 1, 4]), 0, 1, Buffer.alloc(20_000), dice.pick([20_000, 2 ** 24 - 1]))],
  }),
  (dice) => ({
    name: "data before a head",
    frames: [frame(types.data, endStream, dice.pick([0, 1, 2]), Buffer.alloc(10))],
  }),
  (dice) => ({
    name: "window updates",
    frames: [
      ...times(dice.between(1, 3), () =>
        frame(types.windowUpdate, 0, dice.pick([0, 1]), uint32(dice.pick([0, 1, 2 ** 31 - 1]))),
      ),
      ...call(dice, 1),
    ],
  }),
  (dice) => ({
    name: "rapid resets",
    frames: [
      Buffer.concat(
        times(dice.pick([10, 300, 1_500]), (n) => {
          const stream = n * 2 + 1;
          return Buffer.concat([...call(dice, stream).slice(0, 1), frame(types.reset, 0, stream, uint32(8))]);
        }),
      ),
    ],
  }),
  (dice) => ({
    name: "many calls at once",
    frames: [Buffer.concat(times(dice.pick([5, 30]), (n) => Buffer.concat(call(dice, n * 2 + 1))))],
  }),
  (dice) => ({
    name: "decreasing stream numbers",
    frames: [...call(dice, 5), ...call(dice, 3), ...call(dice, 5)],
  }),
  (dice) => ({ name: "an even stream number", frames: call(dice, 2) }),
  (dice) => ({
    name: "a head without end",
    frames: [frame(types.headers, 0, 1, fieldBlock(headOf(goodCall(dice).path)))],
  }),
  (dice) => ({
    name: "a flood of continuations",
    frames: [
      frame(types.headers, 0, 1, fieldBlock(headOf("/x"))),
      ...times(dice.pick([5, 200, 1_000]), (n) =>
        frame(types.continuation, 0, 1, fieldBlock([[`x-${n}`, "y".repeat(200)]])),
      ),
    ],
  }),
  (dice) => ({
    name: "a flood of headers",
    frames: [
      head(
        headOf(
          goodCall(dice).path,
          times(dice.pick([50, 200]), (n) => [`x-${n}`, "y".repeat(50)] as const),
        ),
      ),
    ],
  }),
  (dice) => ({
    name: "pointers into an empty header table",
    frames: [
      frame(
        types.headers,
        endHeaders,
        1,
        Buffer.from([dice.pick([0x80, 0xc0, 0xff, 0xbe]), ...dice.bytes(10)]),
      ),
    ],
  }),
  (dice) => ({
    name: "bad pseudo headers",
    frames: [
      head(
        dice.pick<Fields>([
          [],
          [[":method", "POST"]],
          [
            [":path", "/livez"],
            [":scheme", "http"],
          ],
          [...headOf("/livez"), [":path", "/x"]],
          [["x", "y"], ...headOf("/livez")],
          [...headOf("/livez"), [":status", "200"]],
          [...headOf("/livez"), [":odd", "x"]],
          headOf(""),
          headOf("livez"),
          [
            [":method", ""],
            [":scheme", "http"],
            [":path", "/"],
            [":authority", ""],
          ],
          [
            [":method", "GET"],
            [":scheme", "ftp"],
            [":path", "/livez"],
            [":authority", "localhost"],
          ],
          [
            [":method", "GET"],
            [":scheme", "http"],
            [":path", "/livez"],
            ["host", "a"],
            [":authority", "b"],
          ],
          [
            [":method", "CONNECT"],
            [":authority", "localhost:1"],
          ],
          [
            [":method", "CONNECT"],
            [":scheme", "http"],
            [":path", "/"],
            [":authority", "localhost"],
            [":protocol", "websocket"],
          ],
        ]),
      ),
    ],
  }),
  (dice) => ({
    name: "bad header fields",
    frames: [
      head(
        headOf("/livez", [
          dice.pick([
            ["Upper", "x"],
            ["connection", "close"],
            ["transfer-encoding", "chunked"],
            ["te", "gzip"],
            ["", "x"],
            ["a b", "x"],
            ["x", "a\r\nb: c"],
            ["x", "\0"],
            ["content-length", "5"],
            ["content-length", "-1"],
            ["host", "other"],
            ["x", " y "],
          ] as const),
        ]),
      ),
    ],
  }),
  (dice) => ({
    name: "priorities",
    frames: [
      frame(types.priority, 0, 1, Buffer.concat([uint32(dice.pick([1, 0, 3])), Buffer.of(255)])),
      ...call(dice, 1),
    ],
  }),
  (dice) => ({
    name: "a client's push",
    frames: [
      frame(
        types.pushPromise,
        endHeaders,
        dice.pick([1, 0]),
        Buffer.concat([uint32(2), fieldBlock(headOf("/livez"))]),
      ),
    ],
  }),
  (dice) => ({
    name: "padding longer than the frame",
    frames: [...call(dice, 1).slice(0, 1), frame(types.data, 8 | endStream, 1, Buffer.of(200, 1, 2))],
  }),
  (dice) => ({
    name: "data after the end",
    frames: [...call(dice, 1), frame(types.data, 0, 1, Buffer.alloc(100)), ...call(dice, 3)],
  }),
  (dice) => ({
    name: "trailers from the client",
    frames: [
      ...call(dice, 1).slice(0, 1),
      head(dice.pick<Fields>([[["x", "y"]], [[":path", "/x"]], [["grpc-status", "0"]]]), 1),
    ],
  }),
  (dice) => ({
    name: "empty data frames",
    frames: [
      ...call(dice, 1).slice(0, 1),
      ...times(dice.pick([10, 3_000]), () => frame(types.data, 0, 1)),
      frame(types.data, endStream, 1),
    ],
  }),
  (dice) => ({
    name: "a GOAWAY frame first",
    frames: [frame(types.goAway, 0, 0, Buffer.alloc(8)), ...call(dice, 1)],
  }),
  (dice) => ({
    name: "an answer that the client never reads",
    start: Buffer.concat([preface, frame(types.settings, 0, 0, setting(4, 0))]),
    frames: times(dice.pick([1, 20]), (n) => Buffer.concat(call(dice, n * 2 + 1))),
  }),
];
