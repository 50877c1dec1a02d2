import { callOf, encodeMessages, protocols } from "../call.ts";
import type { Dice } from "../dice.ts";
import type { Kind } from "../kind.ts";
import { makeMessage } from "../messages.ts";
import { pickUnary } from "../methods.ts";

/** Invalid or unusual HTTP/1.1: heads, lengths, chunks, pipelines. */
export const http1Oddities: Kind = {
  name: "HTTP/1.1 oddities",
  weight: 8,
  attempt(dice, { raw }) {
    const { name, bytes } = dice.pick(oddities)(dice);
    // Sent whole, byte by byte at the beginning, or in pieces.
    const parts = dice.chance(60) ? [bytes] : split(bytes, dice);
    const reset = dice.chance(10);
    return {
      title: `${name}${reset ? ", then a reset" : ""}`,
      expects: "any",
      send: () => raw.send(parts, { describe: statusesIn, reset }),
    };
  },
};

/** Returns the status of each answer on the connection, for example `http 200 404`. */
function statusesIn(received: Buffer): string {
  const statuses = received.toString("latin1").matchAll(/HTTP\/1\.1 (\d{3}) /g);
  const distinct = [...new Set([...statuses].map(([, status]) => status))];
  return distinct.length === 0 ? "no HTTP" : `http ${distinct.join(" ")}`;
}

function split(bytes: Buffer, dice: Dice): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = parts.length > 20 ? bytes.length : dice.pick([1, 2, 5, 20, 1_000]);
    parts.push(bytes.subarray(at, at + length));
    at += length;
  }
  return parts;
}

/** Creates a valid call over HTTP/1.1. */
function goodCall(dice: Dice) {
  const method = pickUnary(dice);
  const [protocol] = protocols.filter(({ name }) => name === "Connect with JSON");
  if (protocol === undefined) throw new Error("unknown protocol");
  const message = makeMessage(method.input, { dice, bendPercent: 0 });
  return callOf(method, protocol, encodeMessages(method, [message], true) ?? []);
}

function request(dice: Dice, head: readonly string[], body: Uint8Array | string = ""): Buffer {
  const lines = [
    `POST ${goodCall(dice).path} HTTP/1.1`,
    "host: localhost",
    "content-type: application/json",
    ...head,
  ];
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), Buffer.from(body)]);
}

const livez = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";

type Oddity = (dice: Dice) => { readonly name: string; readonly bytes: Buffer };

const oddities: readonly Oddity[] = [
  (dice) => ({ name: "random bytes", bytes: Buffer.from(dice.bytes(dice.pick([1, 20, 24, 100, 5_000]))) }),
  (dice) => ({
    name: "another first line",
    bytes: Buffer.from(
      `${dice.pick([
        "GET /livez",
        "GET /livez HTTP/9.9",
        "GET  /livez  HTTP/1.1",
        "get /livez HTTP/1.1",
        "GET /livez HTTP/1.0",
        "GET livez HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "CONNECT localhost:1 HTTP/1.1",
        "PRI * HTTP/1.1",
        "PRI * HTTP/2.0",
        "\r\nGET /livez HTTP/1.1",
        `GET /${"a".repeat(20_000)} HTTP/1.1`,
        `${"G".repeat(100)} / HTTP/1.1`,
      ])}\r\nhost: localhost\r\n\r\n`,
      "latin1",
    ),
  }),
  (dice) => {
    const { path, body } = goodCall(dice);
    const one = Buffer.concat([
      Buffer.from(
        `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`,
      ),
      body,
    ]);
    return {
      name: "pipelined calls",
      bytes: Buffer.concat(Array.from({ length: dice.between(2, 12) }, () => one)),
    };
  },
  (dice) => ({ name: "a pipeline of probes", bytes: Buffer.from(livez.repeat(dice.pick([2, 50, 500]))) }),
  (dice) => ({
    name: "a body without a request",
    bytes: Buffer.from(
      `GET /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nabcde${livez.repeat(dice.between(0, 2))}`,
    ),
  }),
  (dice) => ({
    name: "another content-length",
    bytes: request(
      dice,
      [
        `content-length: ${dice.pick(["1", "100", "-1", "0x2", "2, 2", "2, 3", "1e1", "", "99999999999999999999", "+2"])}`,
      ],
      "{}",
    ),
  }),
  (dice) => ({
    name: "two lengths",
    bytes: request(dice, ["content-length: 2", "content-length: 3"], "{}x"),
  }),
  (dice) => ({
    name: "length and chunks",
    bytes: request(dice, ["content-length: 2", "transfer-encoding: chunked"], "2\r\n{}\r\n0\r\n\r\n"),
  }),
  (dice) => ({
    name: "another transfer-encoding",
    bytes: request(
      dice,
      [
        `transfer-encoding: ${dice.pick(["gzip", "chunked, gzip", "xchunked", "chunked, chunked", " chunked", "identity"])}`,
      ],
      "2\r\n{}\r\n0\r\n\r\n",
    ),
  }),
  (dice) => ({
    name: "odd chunks",
    bytes: request(
      dice,
      ["transfer-encoding: chunked"],
      dice.pick([
        "2\r\n{}\r\n0\r\n\r\n",
        "02;a=b\r\n{}\r\n0\r\nx: y\r\n\r\n",
        "2\r\n{}",
        "z\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffff\r\n{}\r\n",
        "2\n{}\n0\n\n",
        "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        `2;${"x".repeat(20_000)}\r\n{}\r\n0\r\n\r\n`,
        `2\r\n{}\r\n0\r\n${"x: y\r\n".repeat(3_000)}\r\n`,
        "3\r\n{}\r\n0\r\n\r\n",
      ]),
    ),
  }),
  (dice) => ({
    name: "odd header lines",
    bytes: request(
      dice,
      [
        dice.pick([
          "no colon",
          ": no name",
          "a b: c",
          "x : y",
          " folded: x",
          "x: a\r\n b",
          "x: \0",
          "x: \x01\x02",
          "x:\ty",
          "x: y\nz: w",
          "x: y\rz: w",
          "host: other",
          "connection: close, upgrade",
          "upgrade: h2c\r\nconnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
          "upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-key: eA==\r\nsec-websocket-version: 13",
          "expect: 100-continue",
          "expect: x",
          "trailer: x",
          "keep-alive: x",
        ]),
        "content-length: 2",
      ],
      "{}",
    ),
  }),
  (dice) => ({
    name: "a flood of headers",
    bytes: request(
      dice,
      Array.from({ length: dice.pick([100, 2_000, 20_000]) }, (_, n) => `x-${n}: y`),
      "{}",
    ),
  }),
  (dice) => ({
    name: "one long header",
    bytes: request(dice, [`x: ${"y".repeat(dice.pick([8_000, 17_000, 1_000_000]))}`]),
  }),
  () => ({ name: "no host", bytes: Buffer.from("GET /livez HTTP/1.1\r\n\r\n") }),
  (dice) => ({ name: "half a call", bytes: request(dice, ["content-length: 1000"], '{"query":') }),
  (dice) => ({
    name: "a TLS hello",
    bytes: Buffer.concat([Buffer.from("1603010200010001fc0303", "hex"), dice.bytes(508)]),
  }),
];
