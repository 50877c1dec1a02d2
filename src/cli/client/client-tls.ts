import { readFile } from "node:fs/promises";
import tls, { type SecureContextOptions } from "node:tls";
import type { SettingValues } from "../../app/config.ts";
import { StartupError } from "../../util/startup-error.ts";

/**
 * Reads the certificate authorities and the client certificate for TLS connections to a server. @throws StartupError
 */
export async function readClientTls(settings: SettingValues): Promise<SecureContextOptions> {
  const ca = await readFileOf(settings, "MEMORY_CA_FILE");
  const cert = await readFileOf(settings, "MEMORY_CLIENT_CERT_FILE");
  const key = await readFileOf(settings, "MEMORY_CLIENT_KEY_FILE");
  return {
    ...(ca === undefined ? {} : { ca: [...tls.rootCertificates, ca.toString()] }),
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
  };
}

async function readFileOf(
  settings: SettingValues,
  name: "MEMORY_CA_FILE" | "MEMORY_CLIENT_CERT_FILE" | "MEMORY_CLIENT_KEY_FILE",
): Promise<Buffer | undefined> {
  const path = settings[name];
  try {
    return path === undefined ? undefined : await readFile(path);
  } catch (error) {
    throw new StartupError(`cannot read the file of ${name}: ${path}`, { cause: error });
  }
}
