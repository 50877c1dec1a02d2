import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type AccessLevel, grantsFrom, isScope } from "../../src/auth/scopes.ts";

/** A scope, and the domains that it grants and does not grant. */
const rows: [scope: string, open: string[], closed: string[]][] = [
  ["read:acme", ["acme"], ["acm", "acmex", "acme-", "acme-x", "acme_x", "acme_memories", "ACME", "", "*"]],
  [
    "read:acme-*",
    ["acme-x", "acme-x-y", "acme-x_y", "acme--"],
    ["acme", "acme-", "acmex", "acme_x", "acme.x", "xacme-y"],
  ],
  ["read:acme_*", ["acme_x", "acme_memories"], ["acme", "acme_", "acme-x", "acmex"]],
  ["read:a-b-*", ["a-b-c"], ["a-b", "a-c", "a-bc", "a-b_c"]],
  ["read:*", ["acme", "x", "", "acme-*"], []],
];

test.each(rows)("%s grants access to these domains only", (scope, open, closed) => {
  const { may } = grantsFrom([scope]);
  expect(open.filter((domain) => !may("read", domain))).toEqual([]);
  expect(closed.filter((domain) => may("read", domain))).toEqual([]);
});

const namePart = fc.string({ unit: fc.constantFrom("a", "b", "-", "_", "1"), maxLength: 6 });

test("a star matches one or more characters after its separator", () => {
  fc.assert(
    fc.property(namePart, fc.constantFrom("-", "_"), namePart, (begin, separator, name) => {
      const scope = `read:a${begin}${separator}*`;
      const domain = `a${name}`;
      const expected = new RegExp(`^a${begin}${separator}.+$`).test(domain);
      expect(grantsFrom([scope]).may("read", domain)).toBe(expected);
      expect(grantsFrom([`read:a${begin}`]).may("read", domain)).toBe(begin === name);
    }),
    { numRuns: 2_000 },
  );
});

describe("levels", () => {
  const levels: AccessLevel[] = ["read", "write", "admin"];
  test.each([
    ["read", ["read"]],
    ["write", ["read", "write"]],
    ["admin", ["read", "write", "admin"]],
  ])("%s includes %j", (level, included) => {
    const { may } = grantsFrom([`${level}:acme`]);
    expect(levels.filter((one) => may(one, "acme"))).toEqual(included);
  });

  test("of several scopes combine, each in its own domains", () => {
    const { may } = grantsFrom(["read:a", "write:b-*", "admin:c"]);
    const allowed = ["a", "b-1", "c"].map((domain) => levels.filter((level) => may(level, domain)));
    expect(allowed).toEqual([["read"], ["read", "write"], levels]);
  });

  test("are none without a scope", () => {
    const grants = grantsFrom([]);
    expect(levels.some((level) => grants.may(level, "acme") || grants.may(level, ""))).toBe(false);
    expect(grants.metrics).toBe(false);
  });
});

test("metrics require their own scope", () => {
  expect(grantsFrom(["metrics"]).metrics).toBe(true);
  expect(grantsFrom(["metrics"]).may("read", "metrics")).toBe(false);
  expect(grantsFrom(["admin:*"]).metrics).toBe(false);
});

test.each([
  "read",
  "read:",
  "read:acme*",
  "read:*acme",
  "read:acme-*-x",
  "read:**",
  "read:-*",
  "read:Acme",
  "read:acme.x",
  "read: acme",
  "read:acme ",
  "READ:acme",
  "delete:acme",
  "read:acme\n",
  "read:acme,b",
  "read:ａcme",
  `read:${"a".repeat(41)}`,
  "openid",
  "metrics:*",
])("%j is not a scope and grants nothing", (scope) => {
  expect(isScope(scope)).toBe(false);
  const { may, metrics } = grantsFrom([scope]);
  const domains = ["acme", "acme-", "acme-x", "a", "", "b", "Acme", "acme.x", "a".repeat(41)];
  expect(domains.filter((domain) => may("read", domain))).toEqual([]);
  expect(metrics).toBe(false);
});
