import { readFileSync } from "node:fs";

/** The memory flags of `npm start`; programs that measure a server start it with the same ones. */
export function readStartFlags(): string[] {
  const text = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
  const { scripts } = JSON.parse(text) as { scripts: { start: string } };
  return scripts.start.split(" ").filter((word) => word.startsWith("--max-"));
}
