import { callOf, encodeMessages, pickProtocol } from "../call.ts";
import type { Dice } from "../dice.ts";
import type { Kind } from "../kind.ts";
import { makeMessage } from "../messages.ts";
import { isEndless, pathOf, pickMethod } from "../methods.ts";

/** Valid messages under unsuitable heads: other paths, verbs, types, timeouts or origins; and callers who leave. */
export const heads: Kind = {
  name: "heads",
  weight: 10,
  attempt(dice, { http }) {
    const method = pickMethod(dice);
    const protocol = pickProtocol(dice);
    const message = makeMessage(method.input, { dice, bendPercent: 0 });
    const bytes = encodeMessages(method, [message], protocol.json) ?? [];
    const call = callOf(method, protocol, bytes);
    const headers: Record<string, string> = { ...call.headers };
    let { verb, path } = call;
    const leaves = dice.chance(15) ? dice.pick(["after-head", "at-answer"] as const) : undefined;
    for (let times = dice.between(1, 2); times > 0; times--) {
      const choice = dice.between(0, 9);
      if (choice === 0) path = dice.pick(paths(path, dice));
      else if (choice === 1)
        verb = dice.pick(["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"]);
      else if (choice === 2) headers["content-type"] = dice.pick(types);
      else Object.assign(headers, dice.pick(oddHeaders(dice)));
    }
    // HTTP itself does not allow these, so the server's parser may hang up.
    const isBroken =
      Object.keys(headers).length > 100 ||
      headers.host !== undefined ||
      !path.startsWith("/") ||
      headers["content-length"] !== undefined ||
      headers.te !== call.headers.te;
    const endless = isEndless(path) ? "at-answer" : undefined;
    return {
      title: `${verb} ${path.slice(0, 80)} as ${protocol.name} ${JSON.stringify(headers).slice(0, 200)} ${leaves ?? ""}`,
      expects: leaves === undefined && !isBroken ? "answered" : "any",
      send: () =>
        http.send({
          ...call,
          verb,
          path,
          headers,
          body: verb === "GET" || verb === "HEAD" || verb === "TRACE" ? new Uint8Array() : call.body,
          ...((leaves ?? endless) === undefined ? {} : { leaves: leaves ?? endless ?? "at-answer" }),
        }),
    };
  },
};

const types = [
  "",
  "text/plain",
  "application/grpc",
  "application/grpc+thrift",
  "application/grpc-web-text",
  "application/grpc-web+json",
  "application/connect+xml",
  "application/connect+proto",
  "application/json; charset=utf-16",
  "application/json;",
  "application/proto, application/json",
  "APPLICATION/JSON",
  "multipart/form-data; boundary=x",
  "x".repeat(3_000),
];

function paths(good: string, dice: Dice): string[] {
  return [
    "/",
    "//",
    "*",
    `${good}/`,
    `/${good}`,
    `${good}?connect=v1&encoding=json&message=%7B%7D`,
    `${good}?encoding=json&message=%zz`,
    `${good}%00`,
    good.toLowerCase(),
    `${good.slice(0, -1)}`,
    "/livez",
    "/readyz",
    "/metrics",
    "/metrics?x=1",
    "/../../x",
    "/%2e%2e/%2e%2e/x",
    "http://other.example/livez",
    `/${"a".repeat(dice.pick([100, 5_000]))}`,
    `/memoryservice.v1.MemoryService/${dice.pick(["", "constructor", "__proto__", "toString"])}`,
    pathOf(pickMethod(dice)),
  ];
}

function oddHeaders(dice: Dice): Record<string, string>[] {
  return [
    {
      "grpc-timeout": dice.pick([
        "",
        "1",
        "1x",
        "-1S",
        "0n",
        "1n",
        "1m",
        "99999999H",
        "123456789S",
        "1e3S",
        "NaN",
      ]),
    },
    {
      "connect-timeout-ms": dice.pick([
        "",
        "0",
        "-1",
        "1",
        "1.5",
        "1e3",
        "10000000000",
        "99999999999",
        "abc",
      ]),
    },
    { "connect-protocol-version": dice.pick(["", "0", "2", "x"]) },
    { "grpc-accept-encoding": dice.pick(["gzip", "br", "lzma", "", ",,,", "gzip;q=0"]) },
    { "accept-encoding": dice.pick(["gzip", "br", "*", "identity;q=0", ""]) },
    { "connect-accept-encoding": dice.pick(["gzip", "br", "x"]) },
    { te: dice.pick(["", "gzip", "trailers, deflate"]) },
    {
      host: dice.pick([
        "",
        "other.example",
        "localhost:1",
        "[::1",
        "a b",
        "127.0.0.1",
        "x".repeat(300),
        "a@b",
        "1:2:3",
      ]),
    },
    { origin: dice.pick(["null", "https://other.example", "file:x", "", "http://127.0.0.1"]) },
    {
      authorization: dice.pick([
        "Bearer x",
        "Bearer",
        "Basic eDp5",
        `Bearer ${"x".repeat(4_000)}`,
        "Bearer a.b.c",
      ]),
    },
    { "x-request-id": dice.pick(["", "x".repeat(2_000), "a b", "é", "%0d%0ax: y", "<b>"]) },
    { traceparent: dice.pick(["00-0-0-00", "x", "00-00000000000000000000000000000000-0000000000000000-00"]) },
    { "content-length": "0" },
    { expect: dice.pick(["100-continue", "200-ok"]) },
    { "x-bin": "?", "a-bin": "!!!!" },
    { "access-control-request-method": "POST", origin: "http://127.0.0.1:1" },
    { cookie: "a=b; ".repeat(dice.pick([1, 500])) },
    Object.fromEntries(Array.from({ length: dice.pick([20, 90, 500]) }, (_, n) => [`x-${n}`, "y"])),
  ];
}
