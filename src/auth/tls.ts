import { createSecureContext, type SecureContextOptions, type TlsOptions } from "node:tls";

/** The TLS files of a server, in PEM. */
export interface TlsCredentials {
  /** The server certificate, followed by its intermediate certificates. */
  readonly certificate: Buffer;
  readonly key: Buffer;
  /** Authorities that may sign client certificates. Undefined if clients need no certificate. */
  readonly clientAuthorities: Buffer | undefined;
}

/** Checks that the files are PEM and belong together. @throws Error */
export function assertUsable(credentials: TlsCredentials): void {
  const { clientAuthorities } = credentials;
  if (clientAuthorities !== undefined && !clientAuthorities.includes("-----BEGIN CERTIFICATE-----")) {
    throw new Error("the file of client authorities contains no certificate");
  }
  try {
    createSecureContext(contextOptions(credentials));
  } catch (error) {
    throw new Error(reasonOf(error), { cause: error });
  }
}

/** Returns the options for `setSecureContext`. */
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

/** Returns the options of the server. If clients need a certificate, a handshake without a valid one fails. */
export function serverOptions(credentials: TlsCredentials): TlsOptions {
  const needsCertificate = credentials.clientAuthorities !== undefined;
  return {
    ...contextOptions(credentials),
    ALPNProtocols: ["h2", "http/1.1"],
    requestCert: needsCertificate,
    rejectUnauthorized: needsCertificate,
  };
}

/** Translates OpenSSL's error codes into plain sentences. */
function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  switch (code) {
    case "ERR_OSSL_X509_KEY_VALUES_MISMATCH":
      return "the key does not match the certificate";
    case "ERR_OSSL_PEM_NO_START_LINE":
      return "a file contains no certificate or key in PEM";
    case "ERR_OSSL_PEM_BAD_PASSWORD_READ":
    case "ERR_OSSL_CRYPTO_INTERRUPTED_OR_CANCELLED":
      return "the key is encrypted";
    default:
      return code || String(error);
  }
}
