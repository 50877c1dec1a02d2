import { brotliCompressSync, gzipSync } from "node:zlib";
import { envelope, headersFor, protocols } from "../call.ts";
import type { Kind } from "../kind.ts";
import { pathOf, pickMethod } from "../methods.ts";

const pieceBytes = 64 * 1024 * 1024;
const pieces = 16;

/** A compressed gigabyte of zeros; created once. */
function createBombs() {
  let made: { readonly gzip: Buffer; readonly br: Buffer } | undefined;
  return () => {
    if (made === undefined) {
      const zeros = Buffer.alloc(pieceBytes);
      // A gzip file may consist of several members in sequence.
      const gzip = Buffer.concat(Array.from({ length: pieces }, () => gzipSync(zeros)));
      made = { gzip, br: brotliCompressSync(zeros) };
    }
    return made;
  };
}

const bombs = createBombs();

/** Small messages that decompress to a gigabyte. The message size limit refuses them. */
export const compressedBombs: Kind = {
  name: "compressed bombs",
  weight: 0.05,
  attempt(dice, { http }) {
    const method = pickMethod(dice);
    const protocol = dice.pick(protocols);
    const encoding = dice.pick(["gzip", "br"] as const);
    const bare = protocol.kind === "connect" && method.methodKind === "unary";
    const headers = headersFor(method, protocol);
    headers[
      protocol.kind === "connect" ? (bare ? "content-encoding" : "connect-content-encoding") : "grpc-encoding"
    ] = encoding;
    return {
      title: `${encoding} for ${method.name} by ${protocol.name}`,
      expects: "answered",
      send: () => {
        const bomb = bombs()[encoding];
        const body = bare ? bomb : envelope(bomb, 1);
        return http.send({ version: protocol.version, verb: "POST", path: pathOf(method), headers, body });
      },
    };
  },
};
