import { createHmac, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, exportSPKI, SignJWT } from "jose";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { createJwtVerifier, type JwtVerifier, keysFrom, remoteKeys } from "../../src/auth/jwt.ts";
import { ServiceError } from "../../src/memory/model/errors.ts";
import { cleanUp, createLogRecorder } from "../server/harness.ts";

const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
const other = generateKeyPairSync("ec", { namedCurve: "P-256" });
const rsa = generateKeyPairSync("rsa", { modulusLength: 2_048 });
const issuer = "https://issuer.example";
const audience = "memory";
const start = Date.parse("2030-01-01");
let now = start;
beforeEach(() => {
  now = start;
});

const claims = {
  iss: issuer,
  aud: audience,
  sub: "agent-7",
  exp: start / 1_000 + 60,
  scope: "openid read:acme",
};

function sign(
  changes: Record<string, unknown> = {},
  key: KeyObject = ec.privateKey,
  header: { alg?: string; kid?: string } = {},
) {
  const payload = Object.fromEntries(
    Object.entries({ ...claims, ...changes }).filter(([, value]) => value !== undefined),
  );
  return new SignJWT(payload).setProtectedHeader({ alg: "ES256", ...header }).sign(key);
}

function verifierOf(key: KeyObject = ec.publicKey): JwtVerifier {
  const pem = key.export({ type: "spki", format: "pem" }).toString();
  return createJwtVerifier({ issuer, audience, findKey: keysFrom(pem), now: () => now });
}

async function reasonOf(verify: () => unknown): Promise<string> {
  try {
    await verify();
    return "accepted";
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    return `${error.reason}: ${error.message}`;
  }
}

const invalid = "UNAUTHENTICATED: the token is not valid";
const expired = "UNAUTHENTICATED: the token has expired";

describe("a token", () => {
  test("identifies its subject and the permissions", async () => {
    const caller = await verifierOf().verify(await sign());
    expect(caller.name).toBe("jwt:agent-7");
    expect([caller.may("read", "acme"), caller.may("write", "acme"), caller.may("read", "acmex")]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test.each([
    ["scp as a text", { scope: undefined, scp: "write:acme metrics" }],
    ["scp as a list", { scope: undefined, scp: ["write:acme", "metrics", 7] }],
    ["both", { scope: "write:acme", scp: ["metrics"] }],
  ])("can have its scopes in %s", async (_name, changes) => {
    const caller = await verifierOf().verify(await sign(changes));
    expect([caller.may("write", "acme"), caller.metrics]).toEqual([true, true]);
  });

  test("grants nothing without scopes", async () => {
    const caller = await verifierOf().verify(await sign({ scope: undefined }));
    expect(caller.may("read", "acme")).toBe(false);
  });

  test.each<[string, Record<string, unknown>, string]>([
    ["of another issuer", { iss: "https://issuer.example.evil" }, invalid],
    ["without an issuer", { iss: undefined }, invalid],
    ["for another audience", { aud: "memory2" }, invalid],
    ["for several audiences, this one among them", { aud: ["other", audience] }, "accepted"],
    ["without an audience", { aud: undefined }, invalid],
    ["without a subject", { sub: undefined }, invalid],
    ["with a number for a subject", { sub: 7 }, invalid],
    ["with nothing for a subject", { sub: null }, invalid],
    ["that never expires", { exp: undefined }, invalid],
    ["that expired a minute ago", { exp: start / 1_000 - 60 }, expired],
    ["that expired as far ago as clocks may differ", { exp: start / 1_000 - 29 }, "accepted"],
    ["that is not valid yet", { nbf: start / 1_000 + 60 }, invalid],
  ])("%s", async (_name, changes, outcome) => {
    const token = await sign(changes);
    expect(await reasonOf(() => verifierOf().verify(token))).toBe(outcome);
  });

  test("is invalid if signed with another key or changed", async () => {
    const [head = "", body = "", signature = ""] = (await sign()).split(".");
    const forged = Buffer.from(JSON.stringify({ ...claims, scope: "admin:*" })).toString("base64url");
    for (const token of [
      await sign({}, other.privateKey),
      `${head}.${forged}.${signature}`,
      `${head}.${body}.`,
      `${head}.${body}`,
      "..",
      "a.b.c",
      "x.".repeat(8_192),
    ]) {
      expect(await reasonOf(() => verifierOf().verify(token))).toBe(invalid);
    }
  });

  test("is invalid with a symmetric signature or none", async () => {
    const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const pem = await exportSPKI(createPublicKey(rsa.publicKey.export({ type: "spki", format: "pem" })));
    const unsigned = `${encode({ alg: "none" })}.${encode(claims)}.`;
    const mac = `${encode({ alg: "HS256" })}.${encode(claims)}`;
    const confused = `${mac}.${createHmac("sha256", pem).update(mac).digest("base64url")}`;
    const verifier = verifierOf(rsa.publicKey);
    expect(await reasonOf(() => verifier.verify(unsigned))).toBe(invalid);
    expect(await reasonOf(() => verifier.verify(confused))).toBe(invalid);
    expect(
      await reasonOf(async () => verifier.verify(await sign({}, rsa.privateKey, { alg: "RS256" }))),
    ).toBe("accepted");
  });

  test("is cached until it expires", async () => {
    let asked = 0;
    const findKey = () => {
      asked++;
      return ec.publicKey;
    };
    const verifier = createJwtVerifier({ issuer, audience, findKey: async () => findKey(), now: () => now });
    const token = await sign();
    const first = await verifier.verify(token);
    expect(verifier.verify(token)).toBe(first);
    expect(asked).toBe(1);
    now = start + 60_000 + 31_000;
    expect(await reasonOf(() => verifier.verify(token))).toBe(expired);
  });

  test("is verified again after five minutes, in case its key was revoked", async () => {
    let key = ec.publicKey;
    const verifier = createJwtVerifier({ issuer, audience, findKey: async () => key, now: () => now });
    const token = await sign({ exp: start / 1_000 + 86_400 });
    await verifier.verify(token);
    key = other.publicKey;
    now = start + 299_000;
    expect(await reasonOf(() => verifier.verify(token))).toBe("accepted");
    now = start + 301_000;
    expect(await reasonOf(() => verifier.verify(token))).toBe(invalid);
  });
});

describe("keys", () => {
  test("are selected from a key set by id", async () => {
    const keys = [
      { ...(await exportJWK(other.publicKey)), kid: "old" },
      { ...(await exportJWK(ec.publicKey)), kid: "new" },
    ];
    const verifier = createJwtVerifier({
      issuer,
      audience,
      findKey: keysFrom(JSON.stringify({ keys })),
      now: () => now,
    });
    const verify = async (kid: string) => verifier.verify(await sign({}, ec.privateKey, { kid }));
    expect(await reasonOf(() => verify("new"))).toBe("accepted");
    expect(await reasonOf(() => verify("old"))).toBe(invalid);
    expect(await reasonOf(() => verify("none"))).toBe(invalid);
  });

  test("that fit are all tried for a token that names none, as during a key rotation", async () => {
    const keys = await Promise.all(
      [rsa, other, ec].map(async ({ publicKey }, n) => ({ ...(await exportJWK(publicKey)), kid: `k${n}` })),
    );
    const stranger = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const verifier = createJwtVerifier({
      issuer,
      audience,
      findKey: keysFrom(JSON.stringify({ keys })),
      now: () => now,
    });
    const verify = async (changes: Record<string, unknown>, key: KeyObject) =>
      await reasonOf(async () => verifier.verify(await sign(changes, key)));
    expect(await verify({}, ec.privateKey)).toBe("accepted");
    expect(await verify({}, other.privateKey)).toBe("accepted");
    expect(await verify({}, stranger.privateKey)).toBe(invalid);
    for (const { privateKey } of [other, ec]) {
      expect(await verify({ exp: start / 1_000 - 60 }, privateKey)).toBe(expired);
      expect(await verify({ aud: "memory2" }, privateKey)).toBe(invalid);
    }
  });

  test.each([
    ["nothing", "", "must contain a public key in PEM or"],
    ["an object", "{}", "JSON Web Key Set"],
    [
      "a private key",
      String(ec.privateKey.export({ type: "pkcs8", format: "pem" })),
      "the PEM file must contain a public key",
    ],
  ])("cannot be parsed from %s", (_name, text, problem) => {
    expect(() => keysFrom(text)).toThrow(problem);
  });
});

describe("an issuer that publishes its keys", () => {
  async function startIssuer() {
    const jwk = { ...(await exportJWK(ec.publicKey)), kid: "k1" };
    const state = { keys: [jwk], status: 200, asked: 0 };
    const server = createServer((_request, response) => {
      state.asked++;
      response.writeHead(state.status, { "content-type": "application/json" });
      response.end(JSON.stringify({ keys: state.keys }));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanUp(() => {
      server.closeAllConnections();
      server.close();
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;
    const { logger, lines } = createLogRecorder();
    const verifier = createJwtVerifier({
      issuer,
      audience,
      findKey: remoteKeys(url, logger),
      now: () => now,
    });
    return { state, verifier, lines };
  }

  test("is queried once for many tokens", async () => {
    const { state, verifier } = await startIssuer();
    const tokens = await Promise.all(
      ["a", "b", "c"].map((sub) => sign({ sub }, ec.privateKey, { kid: "k1" })),
    );
    const callers = await Promise.all(tokens.map((token) => verifier.verify(token)));
    expect(callers.map(({ name }) => name)).toEqual(["jwt:a", "jwt:b", "jwt:c"]);
    expect(state.asked).toBe(1);
  });

  test("that is unavailable does not block tokens of known keys, even if tokens with unknown keys arrive", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    cleanUp(() => void vi.useRealTimers());
    const { state, verifier } = await startIssuer();
    const outcomeOf = async (sub: string, kid: string) => {
      const token = await sign({ sub }, ec.privateKey, { kid });
      return (await reasonOf(() => verifier.verify(token))).split(":")[0];
    };
    expect(await outcomeOf("a", "k1")).toBe("accepted");
    state.status = 500;
    // Until then an unknown key does not cause another query.
    vi.advanceTimersByTime(31_000);
    expect(await outcomeOf("b", "made-up")).toBe("AUTHENTICATION_UNAVAILABLE");
    expect(state.asked).toBe(2);
    expect(await outcomeOf("c", "k1")).toBe("accepted");
    expect(await outcomeOf("d", "made-up")).toBe("AUTHENTICATION_UNAVAILABLE");
    vi.advanceTimersByTime(570_000);
    expect(await outcomeOf("e", "k1")).toBe("AUTHENTICATION_UNAVAILABLE");
  });

  test("can have two keys that fit a token, even while it is unavailable", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    cleanUp(() => void vi.useRealTimers());
    const { state, verifier } = await startIssuer();
    state.keys.push({ ...(await exportJWK(other.publicKey)), kid: "k2" });
    const outcomeOf = async (sub: string, key: KeyObject, header = {}) => {
      const token = await sign({ sub }, key, header);
      return (await reasonOf(() => verifier.verify(token))).split(":")[0];
    };
    expect(await outcomeOf("a", ec.privateKey)).toBe("accepted");
    expect(await outcomeOf("b", other.privateKey)).toBe("accepted");
    expect(await outcomeOf("c", rsa.privateKey, { alg: "RS256" })).toBe("UNAUTHENTICATED");
    state.status = 500;
    vi.advanceTimersByTime(31_000);
    expect(await outcomeOf("d", ec.privateKey, { kid: "made-up" })).toBe("AUTHENTICATION_UNAVAILABLE");
    expect(await outcomeOf("e", other.privateKey)).toBe("accepted");
    expect(state.asked).toBe(2);
  });

  test("that does not respond causes AUTHENTICATION_UNAVAILABLE, and is not queried for a while", async () => {
    const { state, verifier, lines } = await startIssuer();
    state.status = 500;
    const token = await sign({}, ec.privateKey, { kid: "k1" });
    const away = "AUTHENTICATION_UNAVAILABLE: the signing keys of tokens are unavailable";
    expect(await reasonOf(() => verifier.verify(token))).toBe(away);
    state.status = 200;
    expect(await reasonOf(() => verifier.verify(token))).toBe(away);
    expect(state.asked).toBe(1);
    expect(lines).toMatchObject([
      {
        level: "warn",
        message: expect.stringContaining("cannot fetch the signing keys of tokens from MEMORY_JWT_JWKS_URL"),
      },
    ]);
    await expect.poll(() => reasonOf(() => verifier.verify(token)), { timeout: 5_000 }).toBe("accepted");
  });
});
