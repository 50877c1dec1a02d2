import {
  createRegistry,
  type DescMethod,
  type JsonValue,
  type Message,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import type { Dice } from "./dice.ts";
import { pathOf } from "./methods.ts";

/** An HTTP request, well-formed as HTTP. */
export interface HttpCall {
  readonly version: 1 | 2;
  readonly verb: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Resets its stream or connection after sending the head, or at the first bytes of the answer. */
  readonly leaves?: "after-head" | "at-answer";
  /** Sends the body without its length (HTTP/1.1 only). */
  readonly chunked?: boolean;
}

/** A protocol and encoding for a call. */
export interface Protocol {
  readonly name: string;
  readonly version: 1 | 2;
  readonly json: boolean;
  readonly kind: "grpc" | "grpc-web" | "connect";
}

export const protocols: readonly Protocol[] = [
  { name: "gRPC", version: 2, json: false, kind: "grpc" },
  { name: "gRPC with JSON", version: 2, json: true, kind: "grpc" },
  { name: "gRPC-Web", version: 1, json: false, kind: "grpc-web" },
  { name: "gRPC-Web over HTTP/2", version: 2, json: false, kind: "grpc-web" },
  { name: "Connect", version: 1, json: false, kind: "connect" },
  { name: "Connect with JSON", version: 1, json: true, kind: "connect" },
  { name: "Connect over HTTP/2", version: 2, json: false, kind: "connect" },
  { name: "Connect with JSON over HTTP/2", version: 2, json: true, kind: "connect" },
];

const noTypes = createRegistry();

/** Encodes the messages of a call; returns undefined if JSON cannot express one. */
export function encodeMessages(
  method: DescMethod,
  messages: readonly Message[],
  json: boolean,
): Uint8Array[] | undefined {
  try {
    return messages.map((message) =>
      json
        ? Buffer.from(JSON.stringify(toJson(method.input, message, { registry: noTypes }) as JsonValue))
        : toBinary(method.input, message),
    );
  } catch {
    return undefined;
  }
}

/** Creates a call with encoded messages, valid or not. */
export function callOf(method: DescMethod, protocol: Protocol, messages: readonly Uint8Array[]): HttpCall {
  const bare = protocol.kind === "connect" && method.methodKind === "unary";
  const body = bare ? (messages[0] ?? new Uint8Array()) : Buffer.concat(messages.map((one) => envelope(one)));
  return {
    version: protocol.version,
    verb: "POST",
    path: pathOf(method),
    headers: headersFor(method, protocol),
    body,
  };
}

export function headersFor(method: DescMethod, { kind, json }: Protocol): Record<string, string> {
  const format = json ? "json" : "proto";
  switch (kind) {
    case "grpc":
      return { "content-type": `application/grpc+${format}`, te: "trailers" };
    case "grpc-web":
      return { "content-type": `application/grpc-web+${format}`, "x-grpc-web": "1" };
    default:
      return method.methodKind === "unary"
        ? { "content-type": `application/${format}`, "connect-protocol-version": "1" }
        : { "content-type": `application/connect+${format}`, "connect-protocol-version": "1" };
  }
}

/** Returns a message with the five-byte prefix of gRPC and Connect streams. */
export function envelope(message: Uint8Array, flags = 0, length = message.length): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags & 0xff);
  head.writeUInt32BE(length >>> 0, 1);
  return Buffer.concat([head, message]);
}

export function pickProtocol(dice: Dice): Protocol {
  return dice.pick(protocols);
}
