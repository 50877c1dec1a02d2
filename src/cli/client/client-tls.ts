import { readFile } from "node:fs/promises";
import tls, { type SecureContextOptions } from "node:tls";
import type { SettingValues } from "../../app/config.ts";
import { StartupError } from "../../memory/model/errors.ts";

/** What a command trusts, and what it shows, when it asks a server over TLS. @throws StartupError */
export async function readClientTls(settings: SettingValues): Promise<SecureContextOptions> {
  const ca = await readNamed(settings, "MEMORY_CA_FILE");
  const cert = await readNamed(settings, "MEMORY_CLIENT_CERT_FILE");
  const key = await readNamed(settings, "MEMORY_CLIENT_KEY_FILE");
  return {
    ...(ca === undefined ? {} : { ca: [...tls.rootCertificates, ca.toString()] }),
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
  };
}

async function readNamed(
  settings: SettingValues,
  name: "MEMORY_CA_FILE" | "MEMORY_CLIENT_CERT_FILE" | "MEMORY_CLIENT_KEY_FILE",
): Promise<Buffer | undefined> {
  const path = settings[name];
  try {
    return path === undefined ? undefined : await readFile(path);
  } catch (error) {
    throw new StartupError(`${name} cannot be read: ${path}`, { cause: error });
  }
}
