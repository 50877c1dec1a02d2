import { brotliCompressSync, gzipSync } from "node:zlib";
import { encodeMessages, envelope, headersFor, protocols } from "../call.ts";
import type { Dice } from "../dice.ts";
import type { Kind } from "../kind.ts";
import { makeMessage } from "../messages.ts";
import { isEndless, pathOf, pickMethod } from "../methods.ts";

/** Messages in frames with wrong lengths, flags or compression. */
export const frames: Kind = {
  name: "frames",
  weight: 12,
  attempt(dice, { http }) {
    const method = pickMethod(dice);
    const protocol = dice.pick(protocols);
    const message = makeMessage(method.input, { dice, bendPercent: 2 });
    const bytes = encodeMessages(method, [message], protocol.json)?.[0] ?? new Uint8Array();
    const { name, body, encoding } = dice.pick(breaks)(bytes, dice);
    const headers = headersFor(method, protocol);
    for (const header of ["grpc-encoding", "connect-content-encoding", "content-encoding"]) {
      if (encoding !== undefined) headers[header] = encoding;
    }
    return {
      title: `${name} for ${method.name} by ${protocol.name}`,
      expects: "answered",
      send: () =>
        http.send({
          version: protocol.version,
          verb: "POST",
          path: pathOf(method),
          headers,
          body,
          chunked: dice.chance(30),
          ...(isEndless(pathOf(method)) ? { leaves: "at-answer" } : {}),
        }),
    };
  },
};

interface Broken {
  readonly name: string;
  readonly body: Uint8Array;
  readonly encoding?: string;
}

const breaks: readonly ((bytes: Uint8Array, dice: Dice) => Broken)[] = [
  () => ({ name: "nothing", body: new Uint8Array() }),
  (_, dice) => ({ name: "half a head", body: dice.bytes(dice.between(1, 4)) }),
  (bytes, dice) => ({
    name: "another length",
    body: envelope(
      bytes,
      0,
      dice.pick([0, 1, bytes.length + 1, bytes.length - 1, 4_194_304, 4_194_305, 2 ** 31, -1]),
    ),
  }),
  (bytes, dice) => ({
    name: "other flags",
    body: envelope(bytes, dice.pick([1, 2, 3, 4, 0x80, 0x81, 0xff])),
  }),
  (bytes) => ({ name: "two messages", body: Buffer.concat([envelope(bytes), envelope(bytes)]) }),
  (bytes) => ({ name: "no frame", body: bytes }),
  (bytes, dice) => ({
    name: "many empty messages",
    body: Buffer.concat(Array.from({ length: dice.pick([10, 1_000]) }, () => envelope(bytes.subarray(0, 0)))),
  }),
  (bytes, dice) => ({
    name: "a compressed bit on uncompressed data",
    body: envelope(bytes, 1),
    encoding: dice.pick(["gzip", "br", "identity"]),
  }),
  (bytes, dice) => ({
    name: "an unknown compression",
    body: envelope(bytes, 1),
    encoding: dice.pick(["lzma", "deflate", "zstd", "", "gzip, gzip", "GZIP"]),
  }),
  (bytes, dice) => ({ name: "gzip", body: envelope(gzipSync(bytes), dice.pick([0, 1])), encoding: "gzip" }),
  (bytes, dice) => ({
    name: "brotli",
    body: envelope(brotliCompressSync(bytes), dice.pick([0, 1])),
    encoding: "br",
  }),
  (bytes) => ({ name: "gzip of all", body: gzipSync(envelope(bytes)), encoding: "gzip" }),
  (bytes, dice) => {
    const zipped = gzipSync(bytes);
    return {
      name: "a gzip cut short",
      body: envelope(zipped.subarray(0, dice.between(0, zipped.length - 1)), 1),
      encoding: "gzip",
    };
  },
  (bytes, dice) => {
    const zipped = gzipSync(bytes);
    const at = dice.between(0, zipped.length - 1);
    zipped[at] = (zipped[at] ?? 0) ^ 0xff;
    return { name: "a damaged gzip", body: envelope(zipped, 1), encoding: "gzip" };
  },
  (bytes) => ({
    name: "the end of a Connect stream from the client",
    body: Buffer.concat([envelope(bytes), envelope(Buffer.from("{}"), 2)]),
  }),
  (bytes) => ({
    name: "gRPC-Web trailers from the client",
    body: Buffer.concat([envelope(bytes), envelope(Buffer.from("grpc-status: 0\r\n"), 0x80)]),
  }),
];
