import { readFileSync } from "node:fs";

/** What `npm start` tells Node about memory: programs that measure a server start it as users do. */
export function readStartFlags(): string[] {
  const text = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
  const { scripts } = JSON.parse(text) as { scripts: { start: string } };
  return scripts.start.split(" ").filter((word) => word.startsWith("--max-"));
}
