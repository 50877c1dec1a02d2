import { describe, expect, test } from "vitest";
import { apiKeysFrom, createApiKey, findApiKey } from "../../src/auth/api-keys.ts";

const ci = createApiKey({ name: "ci", scopes: ["read:startup"] });
const ops = createApiKey({ name: "ops", scopes: ["admin:*", "metrics"], expires: new Date("2030-01-31") });

describe("a generated key", () => {
  test("has 256 random bits and a recognizable prefix", () => {
    expect(ci.key).toMatch(/^msk_[A-Za-z0-9_-]{43}$/);
    expect(createApiKey({ name: "ci", scopes: [] }).key).not.toBe(ci.key);
  });

  test("is stored as a hash, with name, scopes and expiry", () => {
    expect(JSON.parse(ops.line)).toEqual({
      name: "ops",
      hash: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      scopes: ["admin:*", "metrics"],
      expires: "2030-01-31T00:00:00.000Z",
    });
    expect(ci.line).not.toContain(ci.key.slice(4));
  });

  test("requires a valid name and valid scopes", () => {
    expect(() => createApiKey({ name: "two words", scopes: [] })).toThrow("the key must have a name");
    expect(() => createApiKey({ name: "ci", scopes: ["read"] })).toThrow(
      "the key must have a list of scopes",
    );
  });
});

describe("parsed keys", () => {
  const keys = apiKeysFrom(`# keys\n\n${ci.line}\r\n  # more\n${ops.line}\n`);

  test("include the first and the last generated key", () => {
    expect(findApiKey(keys, ci.key)?.caller).toMatchObject({ name: "key:ci", metrics: false });
    expect(findApiKey(keys, ops.key)?.caller.may("admin", "anything")).toBe(true);
    expect(findApiKey(keys, ops.key)?.expires).toBe(Date.parse("2030-01-31"));
  });

  test.each(["", "msk_", ci.key.slice(0, -1), `${ci.key}A`, ci.key.toLowerCase(), JSON.parse(ci.line).hash])(
    "are not found by %j",
    (presented) => {
      expect(findApiKey(keys, presented)).toBeUndefined();
    },
  );
});

const hash = `sha256:${"0".repeat(64)}`;
test.each<[string, string]>([
  ["{", "line 2 is not a JSON object"],
  ["[]", "line 2 is not a JSON object"],
  [JSON.stringify({ name: "x", hash, scopes: [], scope: "" }), "line 2 must have no other fields than"],
  [JSON.stringify({ hash, scopes: [] }), "line 2 must have a name"],
  [JSON.stringify({ name: "x y", hash, scopes: [] }), "line 2 must have a name"],
  [JSON.stringify({ name: "x", scopes: [] }), "line 2 must have a hash"],
  [JSON.stringify({ name: "x", hash: "s3cret", scopes: [] }), "line 2 must have a hash"],
  [JSON.stringify({ name: "x", hash, scopes: "read:a" }), "line 2 must have a list of scopes"],
  [JSON.stringify({ name: "x", hash, scopes: ["read:a*"] }), "line 2 must have a list of scopes"],
  [JSON.stringify({ name: "x", hash, scopes: [], expires: "tomorrow" }), "line 2 must have a time"],
  [JSON.stringify({ name: "x", hash, scopes: [], expires: 1 }), "line 2 must have a time"],
  [JSON.stringify({ name: "x", hash, scopes: [], expires: "2030-02-31" }), "line 2 must have a time"],
  [JSON.stringify({ name: "ci", hash, scopes: [] }), "line 2 has the name of an earlier line"],
  [JSON.stringify({ ...JSON.parse(ci.line), name: "x" }), "line 2 has the hash of an earlier line"],
])("rejects %s", (line, problem) => {
  const text = `${ci.line}\n${line}`;
  expect(() => apiKeysFrom(text)).toThrow(problem);
  expect(() => apiKeysFrom(text)).not.toThrow("s3cret");
});
