import { createSecureContext, type SecureContextOptions, type TlsOptions } from "node:tls";

/** What a server shows, in PEM. */
export interface TlsCredentials {
  /** Its certificate, and those between it and one that clients trust. */
  readonly certificate: Buffer;
  readonly key: Buffer;
  /** Who may have signed the certificates that clients must show; undefined: they need none. */
  readonly clientAuthorities: Buffer | undefined;
}

/** @throws Error if the files do not belong together, or are no PEM. */
export function assertUsable(credentials: TlsCredentials): void {
  const { clientAuthorities } = credentials;
  if (clientAuthorities !== undefined && !clientAuthorities.includes("-----BEGIN CERTIFICATE-----")) {
    throw new Error("the file of client authorities has no certificate");
  }
  try {
    createSecureContext(contextOptions(credentials));
  } catch (error) {
    throw new Error(reasonOf(error), { cause: error });
  }
}

/** For `setSecureContext`. */
export function contextOptions({
  certificate,
  key,
  clientAuthorities,
}: TlsCredentials): SecureContextOptions {
  return {
    cert: certificate,
    key,
    minVersion: "TLSv1.2",
    ...(clientAuthorities === undefined ? {} : { ca: clientAuthorities }),
  };
}

/** For the server: a handshake without a good client certificate fails where one is needed. */
export function serverOptions(credentials: TlsCredentials): TlsOptions {
  const needsCertificate = credentials.clientAuthorities !== undefined;
  return {
    ...contextOptions(credentials),
    ALPNProtocols: ["h2", "http/1.1"],
    requestCert: needsCertificate,
    rejectUnauthorized: needsCertificate,
  };
}

/** OpenSSL's words are for those who know OpenSSL. */
function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  switch (code) {
    case "ERR_OSSL_X509_KEY_VALUES_MISMATCH":
      return "the key is not that of the certificate";
    case "ERR_OSSL_PEM_NO_START_LINE":
      return "a file has no certificate or key in PEM";
    case "ERR_OSSL_PEM_BAD_PASSWORD_READ":
    case "ERR_OSSL_CRYPTO_INTERRUPTED_OR_CANCELLED":
      return "the key is encrypted";
    default:
      return code || String(error);
  }
}
