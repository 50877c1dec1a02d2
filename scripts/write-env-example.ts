import { writeFileSync } from "node:fs";
import { SETTINGS, type Setting } from "../src/app/settings.ts";

const head = `# Settings of Memory Service, all of them, at their defaults. Copy this file to .env and uncomment what should differ.
# Docker Compose reads .env by itself; a shell does with: set -a; . ./.env; set +a
# Written by scripts/write-env-example.ts from src/app/settings.ts.
`;

/** Returns the text of .env.example. */
export function envExample(): string {
  const settings = Object.entries<Setting<unknown>>(SETTINGS).map(([name, setting]) => {
    const { description, allowed, unit } = setting;
    const rule = allowed === "text" ? "" : ` Allowed: ${allowed}${unit === undefined ? "" : ` (${unit})`}.`;
    const lines = wrap(`${description}${rule}`, 118).map((line) => `# ${line}`);
    return `${lines.join("\n")}\n#${name}=${setting.default ?? ""}\n`;
  });
  return [head, ...settings].join("\n");
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

if (import.meta.main) writeFileSync(new URL("../.env.example", import.meta.url), envExample());
