import { readFileSync } from "node:fs";

/** Reads the version of the program, such as `1.4.0`, from the package.json beside the directory it runs from. */
export function readVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const { version } = JSON.parse(text) as { readonly version: string };
  return version;
}
