import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { SettingValues } from "../../app/config.ts";
import { apiKeysFrom } from "../../auth/api-keys.ts";
import { keysFrom } from "../../auth/jwt.ts";
import { needsCredentials } from "../../auth/settings.ts";
import { assertUsable } from "../../auth/tls.ts";
import { isLoopbackHost } from "../../util/loopback.ts";
import { hostAndPort } from "../client/addresses.ts";
import { type Check, ok, problem, warning } from "./check.ts";

const DAY_MS = 86_400_000;
/** A certificate that expires sooner gets a warning, because certificates are usually renewed earlier. */
const RENEWAL_DAYS = 14;
const FETCH_TIMEOUT_MS = 3_000;

/** Checks authentication and transport encryption. */
export async function checkSecurity(settings: SettingValues, now: number = Date.now()): Promise<Check[]> {
  return [
    ...checkNetwork(settings),
    ...(await checkApiKeys(settings, now)),
    ...(await checkTokens(settings)),
    ...(await checkCertificate(settings, now)),
  ];
}

function checkNetwork(settings: SettingValues): Check[] {
  const { MEMORY_HOST: host, MEMORY_PORT: port } = settings;
  if (isLoopbackHost(host)) return [];
  const encrypted = settings.MEMORY_TLS_CERT_FILE !== undefined;
  if (!needsCredentials(settings) && settings.MEMORY_TLS_CLIENT_CA_FILE === undefined) {
    return [
      warning(
        "network",
        `with MEMORY_HOST=${host}, anyone who reaches ${hostAndPort(host, port)} can read and write everything` +
          (encrypted ? "" : ", and nothing is encrypted"),
        "set MEMORY_API_KEYS_FILE, keep the port within a trusted network, or set MEMORY_HOST=127.0.0.1",
      ),
    ];
  }
  if (encrypted) return [];
  return [
    warning(
      "network",
      `credentials arrive at ${hostAndPort(host, port)} in plain text`,
      "set MEMORY_TLS_CERT_FILE and MEMORY_TLS_KEY_FILE, or terminate TLS in a proxy",
    ),
  ];
}

async function checkApiKeys(settings: SettingValues, now: number): Promise<Check[]> {
  const { MEMORY_API_KEYS: text, MEMORY_API_KEYS_FILE: path } = settings;
  if (text === undefined && path === undefined) return [];
  const name = "API keys";
  const where = path ?? "MEMORY_API_KEYS";
  try {
    const keys = apiKeysFrom(text ?? (await readFile(path ?? "", "utf8")));
    const expired = keys.filter(({ expires }) => expires !== undefined && expires <= now);
    if (keys.length === 0) {
      return [warning(name, `there are no keys in ${where}`, 'create one with "memory-service create-key"')];
    }
    if (expired.length === 0) return [ok(name, `${keys.length} in ${where}`)];
    const names = expired.map((key) => key.name).join(", ");
    return [
      warning(name, `of the ${keys.length} in ${where}, these have expired: ${names}`, "delete their lines"),
    ];
  } catch (error) {
    return [problem(name, `${where} cannot be used: ${messageOf(error)}`, "fix it")];
  }
}

async function checkTokens(settings: SettingValues): Promise<Check[]> {
  const { MEMORY_JWT_ISSUER: issuer, MEMORY_JWT_JWKS_URL: url, MEMORY_JWT_KEY_FILE: path } = settings;
  if (issuer === undefined) return [];
  const name = "tokens";
  try {
    if (url === undefined) keysFrom(await readFile(path ?? "", "utf8"));
    else {
      const answer = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
      if (answer.status !== 200) throw new Error(`status ${answer.status}`);
      keysFrom(await answer.text());
    }
    return [ok(name, `tokens of ${issuer} are accepted and verified with the keys at ${url ?? path}`)];
  } catch (error) {
    const detail = `cannot verify tokens of ${issuer}: cannot read the keys at ${url ?? path}: ${messageOf(error)}`;
    return [problem(name, detail, "set MEMORY_JWT_JWKS_URL or MEMORY_JWT_KEY_FILE to their location")];
  }
}

async function checkCertificate(settings: SettingValues, now: number): Promise<Check[]> {
  const { MEMORY_TLS_CERT_FILE: certPath, MEMORY_TLS_KEY_FILE: keyPath } = settings;
  const { MEMORY_TLS_CLIENT_CA_FILE: authorities } = settings;
  if (certPath === undefined || keyPath === undefined) return [];
  const name = "certificate";
  const remedy = "renew it; the running server picks it up";
  try {
    const [certificate, key] = await Promise.all([readFile(certPath), readFile(keyPath)]);
    const clientAuthorities = authorities === undefined ? undefined : await readFile(authorities);
    assertUsable({ certificate, key, clientAuthorities });
    const { subject, validFrom, validTo } = new X509Certificate(certificate);
    const shown = `${certPath} (${subject.replaceAll("\n", ", ")})`;
    const days = (Date.parse(validTo) - now) / DAY_MS;
    if (Date.parse(validFrom) > now)
      return [problem(name, `${shown} is not valid until ${validFrom}`, remedy)];
    if (days <= 0) return [problem(name, `${shown} expired on ${validTo}`, remedy)];
    if (days < RENEWAL_DAYS) return [warning(name, `${shown} expires on ${validTo}`, remedy)];
    return [ok(name, `${shown} is valid until ${validTo}`)];
  } catch (error) {
    return [problem(name, `${certPath} cannot be used: ${messageOf(error)}`, "fix it")];
  }
}

/** Returns the message of an error; for a failed fetch, that of its cause. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause instanceof Error && error.message === "fetch failed" ? cause.message : error.message;
}
