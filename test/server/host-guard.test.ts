import { expect, test } from "vitest";
import { type AccessRules, checkAccess } from "../../src/server/host-guard.ts";

const onLoopback: AccessRules = {
  boundToLoopback: true,
  allowedHosts: ["memory.test", "Proxy.Test:8080"],
  allowedOrigins: ["https://app.example"],
};
const beyond: AccessRules = { ...onLoopback, boundToLoopback: false };

const rows: [string, AccessRules, string | undefined, string | undefined, string][] = [
  ["localhost", onLoopback, "localhost:50051", undefined, "allowed"],
  ["localhost without a port", onLoopback, "localhost", undefined, "allowed"],
  ["localhost in capitals", onLoopback, "LocalHost:50051", undefined, "allowed"],
  ["localhost as an absolute name", onLoopback, "localhost.:50051", undefined, "allowed"],
  ["a name below localhost", onLoopback, "memory.localhost:50051", undefined, "allowed"],
  ["127.0.0.1", onLoopback, "127.0.0.1:50051", undefined, "allowed"],
  ["another address of 127.0.0.0/8", onLoopback, "127.8.9.255", undefined, "allowed"],
  ["[::1]", onLoopback, "[::1]:50051", undefined, "allowed"],
  ["a listed name", onLoopback, "memory.test:50051", undefined, "allowed"],
  ["a listed name with its port", onLoopback, "proxy.test:8080", undefined, "allowed"],
  ["a listed name with another port", onLoopback, "proxy.test:8081", undefined, "host-refused"],
  ["a foreign name", onLoopback, "evil.example", undefined, "host-refused"],
  ["a name that begins like localhost", onLoopback, "localhost.evil.example", undefined, "host-refused"],
  ["a name that ends like localhost", onLoopback, "notlocalhost", undefined, "host-refused"],
  ["a name that begins like an address", onLoopback, "127.0.0.1.evil.example", undefined, "host-refused"],
  ["an address that is none", onLoopback, "127.0.0.999", undefined, "malformed"],
  ["0.0.0.0, which browsers take for this machine", onLoopback, "0.0.0.0:50051", undefined, "host-refused"],
  ["an address of the network", onLoopback, "192.168.1.5:50051", undefined, "host-refused"],
  ["another IPv6 address", onLoopback, "[fe80::1]:50051", undefined, "host-refused"],
  ["no host", onLoopback, undefined, undefined, "malformed"],
  ["an empty host", onLoopback, "", undefined, "malformed"],
  ["user information", onLoopback, "localhost@evil.example", undefined, "malformed"],
  ["a path", onLoopback, "localhost/x", undefined, "malformed"],
  ["half an IPv6 address", onLoopback, "[", undefined, "malformed"],
  ["a port that is none", onLoopback, "localhost:99999", undefined, "malformed"],
  ["a foreign name, listening beyond loopback", beyond, "memory.example:50051", undefined, "allowed"],
  ["no host, listening beyond loopback", beyond, undefined, undefined, "malformed"],
  ["a listed origin", onLoopback, "localhost", "https://app.example", "allowed"],
  ["another origin", onLoopback, "localhost", "https://evil.example", "origin-refused"],
  [
    "the listed origin with another port",
    onLoopback,
    "localhost",
    "https://app.example:444",
    "origin-refused",
  ],
  ["the listed origin without TLS", onLoopback, "localhost", "http://app.example", "origin-refused"],
  [
    "an origin on this machine that is not listed",
    onLoopback,
    "localhost",
    "http://localhost:3000",
    "origin-refused",
  ],
  ["an opaque origin", onLoopback, "localhost", "null", "origin-refused"],
  [
    "another origin, listening beyond loopback",
    beyond,
    "memory.example",
    "https://evil.example",
    "origin-refused",
  ],
  [
    "a listed origin through a foreign name",
    onLoopback,
    "evil.example",
    "https://app.example",
    "host-refused",
  ],
];

test.each(rows)("%s", (_name, rules, authority, origin, kind) => {
  expect(checkAccess(rules, authority, origin).kind).toBe(kind);
});
