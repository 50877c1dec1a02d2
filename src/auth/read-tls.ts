import type { Logger } from "../util/logger.ts";
import type { AuthSettings } from "./settings.ts";
import { assertUsable, type TlsCredentials } from "./tls.ts";
import { type WatchedFiles, watchFiles } from "./watched-files.ts";

/**
 * Reads the certificates that the settings name and reloads them when they change. Returns undefined without TLS.
 *
 * @throws StartupError if a file is unreadable or invalid.
 */
export async function readTls(
  settings: AuthSettings,
  onChange: (credentials: TlsCredentials) => void,
  logger: Logger,
): Promise<WatchedFiles<TlsCredentials> | undefined> {
  const { MEMORY_TLS_CERT_FILE, MEMORY_TLS_KEY_FILE, MEMORY_TLS_CLIENT_CA_FILE } = settings;
  if (MEMORY_TLS_CERT_FILE === undefined || MEMORY_TLS_KEY_FILE === undefined) return undefined;
  const paths = [MEMORY_TLS_CERT_FILE, MEMORY_TLS_KEY_FILE, MEMORY_TLS_CLIENT_CA_FILE];
  return await watchFiles({
    paths: paths.filter((path) => path !== undefined),
    what: "the certificate",
    parse: ([certificate = Buffer.of(), key = Buffer.of(), clientAuthorities]) => {
      const credentials = { certificate, key, clientAuthorities };
      assertUsable(credentials);
      return credentials;
    },
    onChange,
    logger,
  });
}
