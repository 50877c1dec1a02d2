import { readFileSync, writeFileSync } from "node:fs";
import { SETTINGS, type Setting } from "../src/app/settings.ts";

/** Returns the table of settings as Markdown. */
export function settingsTable(): string {
  const rows = Object.entries<Setting<unknown>>(SETTINGS).map(([name, setting]) => {
    const unit = setting.unit === undefined ? "" : ` ${setting.unit}`;
    const defaultValue = setting.default === undefined ? "" : `\`${setting.default}\`${unit}`;
    const description = [setting.description, sentence(setting.allowed)].join(" ").trim();
    return `| \`${name}\` | ${defaultValue} | ${description} |`;
  });
  return ["| setting | default | |", "| --- | --- | --- |", ...rows].join("\n");
}

/** Replaces the table between the two markers of a page. */
export function withSettingsTable(page: string): string {
  return page.replace(
    /(<!-- settings: [^\n]*-->\n)[\s\S]*?(<!-- \/settings -->)/,
    (_, begin: string, end: string) => `${begin}\n${settingsTable()}\n\n${end}`,
  );
}

function sentence(allowed: string): string {
  return allowed === "text" ? "" : `Allowed: ${allowed}.`;
}

if (import.meta.main) {
  const path = new URL("../docs/configuration.md", import.meta.url);
  writeFileSync(path, withSettingsTable(readFileSync(path, "utf8")));
}
