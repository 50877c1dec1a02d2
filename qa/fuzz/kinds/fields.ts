import { callOf, encodeMessages, pickProtocol } from "../call.ts";
import type { Kind } from "../kind.ts";
import { makeMessage } from "../messages.ts";
import { isEndless, isOfContract, pickMethod } from "../methods.ts";

/** Well-formed requests of every method, from usual ones to ones with odd values in most fields. */
export const fields: Kind = {
  name: "fields",
  weight: 40,
  attempt(dice, { http }) {
    const method = pickMethod(dice);
    const protocol = pickProtocol(dice);
    const bendPercent = dice.pick([0, 0, 3, 10, 30, 70]);
    const many = method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
    const messages = Array.from({ length: many ? dice.between(0, 6) : 1 }, () =>
      makeMessage(method.input, { dice, bendPercent }),
    );
    const encoded =
      encodeMessages(method, messages, protocol.json) ?? encodeMessages(method, messages, false) ?? [];
    const json = protocol.json && encodeMessages(method, messages, true) !== undefined;
    const call = callOf(method, { ...protocol, json }, encoded);
    const deadline = dice.chance(2) ? { "grpc-timeout": "5m", "connect-timeout-ms": "5" } : {};
    const isTooLarge = call.body.length > 4_000_000;
    // HTTP/1.1 cannot carry bidirectional streams, and JSON answers cannot carry every text.
    const isCarried = protocol.version === 2 || method.methodKind !== "bidi_streaming";
    const isSent = encoded.length === messages.length && encoded.length > 0;
    return {
      title: `${method.name} by ${protocol.name}${json === protocol.json ? "" : " in binary"}, ${bendPercent} % bent, ${call.body.length} bytes`,
      expects:
        !isCarried || !isSent || isTooLarge ? "answered" : isOfContract(method) ? "contract" : "decodable",
      send: () =>
        http.send({
          ...call,
          headers: { ...call.headers, ...deadline },
          ...(isEndless(call.path) ? { leaves: "at-answer" } : {}),
        }),
    };
  },
};
