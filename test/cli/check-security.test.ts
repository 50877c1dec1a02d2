import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readConfig } from "../../src/app/config.ts";
import { createApiKey } from "../../src/auth/api-keys.ts";
import { checkSecurity } from "../../src/cli/doctor/check-security.ts";
import { tlsPath } from "../support/server/tls.ts";

const directory = mkdtempSync(join(tmpdir(), "memory-service-"));
afterAll(() => rmSync(directory, { recursive: true }));

const key = createApiKey({ name: "ci", scopes: ["read:*"] });
const old = createApiKey({ name: "old", scopes: [], expires: new Date("2020-01-01") });
const keys = join(directory, "keys");
writeFileSync(keys, key.line);

const beyond = { MEMORY_HOST: "0.0.0.0" };
const tls = { MEMORY_TLS_CERT_FILE: tlsPath("server.pem"), MEMORY_TLS_KEY_FILE: tlsPath("server-key.pem") };
const jwt = { MEMORY_JWT_ISSUER: "https://issuer.example", MEMORY_JWT_AUDIENCE: "m" };
const expiry = Date.parse("2120-01-01");
const day = 86_400_000;

test.each<[Readonly<Record<string, string>>, [status: string, detail: RegExp][], now?: number]>([
  [{}, []],
  [
    { ...beyond, MEMORY_ALLOW_UNAUTHENTICATED: "true" },
    [
      [
        "warning",
        /anyone who reaches 0\.0\.0\.0:50051 can read and write everything, and nothing is encrypted/,
      ],
    ],
  ],
  [
    { ...beyond, MEMORY_API_KEYS_FILE: keys },
    [
      ["warning", /credentials arrive at 0\.0\.0\.0:50051 in plain text/],
      ["ok", /^1 in .*keys$/],
    ],
  ],
  [
    { ...beyond, ...tls, MEMORY_API_KEYS_FILE: keys },
    [
      ["ok", /^1 in /],
      ["ok", /server\.pem \(CN=server\) is valid until Jan +1 .* 2120/],
    ],
  ],
  [{ ...beyond, ...tls, MEMORY_TLS_CLIENT_CA_FILE: tlsPath("ca.pem") }, [["ok", /is valid until/]]],
  [
    { MEMORY_API_KEYS: `${key.line}\n${old.line}` },
    [["warning", /of the 2 in MEMORY_API_KEYS, these have expired: old/]],
  ],
  [{ MEMORY_API_KEYS: "#" }, [["warning", /there are no keys in MEMORY_API_KEYS/]]],
  [{ MEMORY_API_KEYS: "{" }, [["problem", /MEMORY_API_KEYS cannot be used: line 1 is not a JSON object/]]],
  [{ MEMORY_API_KEYS_FILE: "/nowhere" }, [["problem", /^\/nowhere cannot be used: ENOENT/]]],
  [
    { ...jwt, MEMORY_JWT_KEY_FILE: keys },
    [["problem", /cannot verify tokens of https:\/\/issuer\.example: /]],
  ],
  [
    { ...jwt, MEMORY_JWT_JWKS_URL: "http://127.0.0.1:9/keys" },
    [["problem", /cannot read the keys at http:\/\/127\.0\.0\.1:9\/keys: /]],
  ],
  [tls, [["ok", /is valid until/]], expiry - 15 * day],
  [tls, [["warning", /expires on Jan/]], expiry - 13 * day],
  [tls, [["problem", /expired on/]], expiry + day],
  [tls, [["problem", /is not valid until/]], Date.parse("2019-01-01")],
  [
    { ...tls, MEMORY_TLS_KEY_FILE: tlsPath("client-key.pem") },
    [["problem", /the key does not match the certificate/]],
  ],
])("checks %j", async (environment, expected, now) => {
  const checks = await checkSecurity(readConfig(environment).settings, now);
  expect(checks.map(({ status, detail }) => [status, detail])).toEqual(
    expected.map(([status, detail]) => [status, expect.stringMatching(detail)]),
  );
  for (const { status, remedy } of checks) expect(remedy === undefined).toBe(status === "ok");
});
