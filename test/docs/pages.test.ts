import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { ErrorReason } from "memory-service-client/memoryservice/v1/error_reason_pb.js";
import { describe, expect, test } from "vitest";
import { apiReference } from "../../scripts/write-api-reference.ts";
import { withSettingsTable } from "../../scripts/write-settings-table.ts";
import { SETTINGS } from "../../src/app/settings.ts";
import { type Page, pages, readPage, root } from "../support/documents.ts";

const all = pages();
const troubleshooting = readPage("docs/troubleshooting.md");

test("the API reference is up to date", () => {
  expect(readPage("docs/api.md").text).toBe(apiReference());
});

test("the table of settings is up to date", () => {
  const { text } = readPage("docs/configuration.md");
  expect(withSettingsTable(text)).toBe(text);
});

test("the index names every page", () => {
  const index = readPage("docs/README.md").text;
  const unnamed = readdirSync(`${root}/docs`).filter(
    (name) => name !== "README.md" && !index.includes(`](${name})`),
  );
  expect(unnamed).toEqual([]);
});

describe.each(all)("$path", (page) => {
  test("links to pages and headings that exist", () => {
    expect(internalLinks(page).filter((target) => !exists(target))).toEqual([]);
  });

  test("names settings and scripts that exist", () => {
    const variables = page.text.match(/\b(MEMORY|POSTGRES|OLLAMA)_[A-Z_]*[A-Z]\b/g) ?? [];
    const settings = variables.filter((name) => !isReason(name));
    expect(settings.filter((name) => !(name in SETTINGS))).toEqual([]);

    const { scripts } = JSON.parse(readFileSync(`${root}/package.json`, "utf8"));
    const named = [...page.text.matchAll(/npm run ([\w:-]+)/g)].map(([, name]) => name ?? "");
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });

  test("has headings with unique anchors", () => {
    const anchors = anchorsOf(page);
    expect(anchors.filter((anchor, i) => anchors.indexOf(anchor) !== i)).toEqual([]);
  });
});

describe("troubleshooting", () => {
  const reasons = Object.keys(ErrorReason).filter((name) => /^[A-Z_]+$/.test(name) && name !== "UNSPECIFIED");

  test.each(reasons)("has a section for %s", (reason) => {
    expect(headingsOf(troubleshooting)).toContain(reason);
  });

  test("has no section for a reason that does not exist", () => {
    const named = headingsOf(troubleshooting).filter((heading) => /^[A-Z_]{2,}$/.test(heading));
    expect(named.filter((heading) => !reasons.includes(heading))).toEqual([]);
  });

  test("quotes messages that exist in the sources", () => {
    // The fixed parts of a template, without the inserted values.
    const program = sources(`${root}/src`)
      .join("\n")
      .replaceAll(/\\(["'`])/g, "$1");
    const messages = [...troubleshooting.text.matchAll(/^### `(.+)`$|^\| `([^`]+)` \|/gm)];
    const parts = messages
      .flatMap(([, heading, row]) => (heading ?? row ?? "").split("..."))
      .map((part) => part.trim().replace(/^"$|" | "|^"|"$/g, ""))
      .filter((part) => part !== "" && !isPostgresMessage(part));
    expect(parts.length).toBeGreaterThan(20);
    expect(parts.filter((part) => !program.includes(part))).toEqual([]);
  });
});

/** Returns whether a quoted message comes from PostgreSQL. */
function isPostgresMessage(part: string): boolean {
  return /^(database|does not exist)$/.test(part);
}

function isReason(name: string): boolean {
  return name in ErrorReason;
}

function headingsOf({ text }: Page): string[] {
  const prose = text.replaceAll(/^```[\s\S]*?^```/gm, "");
  return [...prose.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading ?? "");
}

/** Returns the anchors that GitHub generates for a page's headings. */
function anchorsOf(page: Page): string[] {
  return headingsOf(page).map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** Returns the links within the checkout, as paths with anchors. */
function internalLinks({ path, text }: Page): string[] {
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target]) => target ?? "")
    .filter((target) => !/^[a-z]+:/.test(target))
    .map((target) => (target.startsWith("#") ? `${path}${target}` : normalize(join(dirname(path), target))));
}

function exists(target: string): boolean {
  const [path = "", anchor] = target.split("#");
  if (!existsSync(`${root}/${path}`)) return false;
  return anchor === undefined || anchorsOf(readPage(path)).includes(anchor);
}

function sources(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => readFileSync(`${directory}/${name}`, "utf8"));
}
