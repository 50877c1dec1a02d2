import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SignJWT } from "jose";
import { expect, test } from "vitest";
import { readConfig } from "../../src/app/config.ts";
import { createApiKey } from "../../src/auth/api-keys.ts";
import { createAuthenticator } from "../../src/auth/authenticator.ts";
import { cleanUp, createLogRecorder } from "../server/harness.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const issuer = "https://issuer.example";

function tokenOf(key: KeyObject): Promise<string> {
  return new SignJWT({ scope: "read:acme" })
    .setProtectedHeader({ alg: "EdDSA" })
    .setIssuer(issuer)
    .setAudience("memory")
    .setSubject("agent")
    .setExpirationTime("1h")
    .sign(key);
}

test("accepts API keys and tokens together, and rejects tokens of a replaced signing key", async () => {
  const { path: directory, remove } = await temporaryDirectory();
  cleanUp(remove);
  const pair = () => generateKeyPairSync("ed25519");
  const [first, second] = [pair(), pair()];
  const path = join(directory, "key.pem");
  const install = async (key: KeyObject) => {
    await writeFile(join(directory, "new"), key.export({ type: "spki", format: "pem" }));
    await rename(join(directory, "new"), path);
  };
  await install(first.publicKey);
  const api = createApiKey({ name: "ci", scopes: ["write:acme"] });
  const log = createLogRecorder();
  const authenticator = await createAuthenticator(
    readConfig({
      MEMORY_API_KEYS: api.line,
      MEMORY_JWT_ISSUER: issuer,
      MEMORY_JWT_AUDIENCE: "memory",
      MEMORY_JWT_KEY_FILE: path,
    }).settings,
    log.logger,
  );
  cleanUp(() => authenticator?.close());
  const who = async (credential: string) => (await authenticator?.authenticate(`Bearer ${credential}`))?.name;

  expect(await who(api.key)).toBe("key:ci");
  const token = await tokenOf(first.privateKey);
  expect(await who(token)).toBe("jwt:agent");
  expect(await who(token)).toBe("jwt:agent");
  await expect(async () => who(await tokenOf(second.privateKey))).rejects.toThrow("the token is not valid");

  await install(second.publicKey);
  await log.find(({ message }) => message === "reloaded the signing keys of tokens");
  expect(await who(await tokenOf(second.privateKey))).toBe("jwt:agent");
  await expect(() => who(token)).rejects.toThrow("the token is not valid");
});

test.each([
  ["http://issuer.example/keys", 1],
  ["https://issuer.example/keys", 0],
  ["http://127.0.0.1:8080/keys", 0],
  ["http://[::1]:8080/keys", 0],
])("signing keys from %s cause %i warnings", async (url, warnings) => {
  const { logger, lines } = createLogRecorder();
  const { settings } = readConfig({
    MEMORY_JWT_ISSUER: issuer,
    MEMORY_JWT_AUDIENCE: "memory",
    MEMORY_JWT_JWKS_URL: url,
  });
  const authenticator = await createAuthenticator(settings, logger);
  cleanUp(() => authenticator?.close());
  expect(lines.map(({ level }) => level)).toEqual(Array(warnings).fill("warn"));
});

test("creates no authenticator without settings", async () => {
  expect(await createAuthenticator(readConfig({}).settings, createLogRecorder().logger)).toBeUndefined();
});

test.each([
  [{ MEMORY_API_KEYS: "{" }, "the API keys in MEMORY_API_KEYS cannot be used: line 1 is not a JSON object"],
  [
    { MEMORY_API_KEYS_FILE: "/nowhere/keys" },
    "the API keys in /nowhere/keys cannot be used: the file does not exist",
  ],
])("%j prevents the start", async (environment, problem) => {
  const { settings } = readConfig(environment);
  await expect(createAuthenticator(settings, createLogRecorder().logger)).rejects.toThrow(problem);
});
