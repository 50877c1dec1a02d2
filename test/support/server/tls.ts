import { readFileSync } from "node:fs";

/** A file of test/fixtures/tls. */
export function tlsPath(name: string): string {
  return new URL(`../../fixtures/tls/${name}`, import.meta.url).pathname;
}

/** What it holds. */
export function tlsFile(name: string): Buffer {
  return readFileSync(tlsPath(name));
}

/** A certificate with its key, as `server`. */
export function tlsPair(name: string): { readonly certificate: Buffer; readonly key: Buffer } {
  return { certificate: tlsFile(`${name}.pem`), key: tlsFile(`${name}-key.pem`) };
}
