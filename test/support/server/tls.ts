import { readFileSync } from "node:fs";

/** Returns the path of a file in test/fixtures/tls. */
export function tlsPath(name: string): string {
  return new URL(`../../fixtures/tls/${name}`, import.meta.url).pathname;
}

/** Returns the content of that file. */
export function tlsFile(name: string): Buffer {
  return readFileSync(tlsPath(name));
}

/** Returns a certificate with its key, for example `server`. */
export function tlsPair(name: string): { readonly certificate: Buffer; readonly key: Buffer } {
  return { certificate: tlsFile(`${name}.pem`), key: tlsFile(`${name}-key.pem`) };
}
