import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";
import { root } from "../support/documents.ts";

/** The layers of src/, each with the layers that it may import. Every layer may import util and generated. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  app: ["server", "rpc", "auth", "memory", "embedding", "storage", "observability"],
  server: ["rpc", "auth", "memory", "observability"],
  rpc: ["auth", "memory", "observability"],
  auth: ["memory"],
  memory: [],
  embedding: ["memory"],
  storage: ["memory"],
  observability: ["memory", "embedding", "storage"],
  mcp: ["memory"],
  cli: ["app", "auth", "memory", "embedding", "storage", "mcp", "legacy"],
  // The commands of the migration are commands of the CLI, which registers them.
  legacy: ["app", "cli", "memory", "embedding", "storage", "mcp"],
  util: [],
  generated: [],
  "main.ts": ["cli"],
};
const MAX_FILES_PER_FOLDER = 15;

const files = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts"))
  .map((path) => join("src", path));

/** The files that each file imports. */
const imports = new Map(
  files.map((file) => {
    const specifiers = readFileSync(join(root, file), "utf8").matchAll(
      /\b(?:from|import) "(\.{1,2}\/[^"]+)"/g,
    );
    return [file, [...specifiers].map(([, specifier = ""]) => normalize(join(dirname(file), specifier)))];
  }),
);

const layerOf = (file: string) => file.split("/")[1] ?? "";

test("imports between the layers of src go one way", () => {
  const violations = [...imports].flatMap(([file, targets]) =>
    targets
      .filter((target) => {
        const [from, to] = [layerOf(file), layerOf(target)];
        return from !== to && to !== "util" && to !== "generated" && !ALLOWED[from]?.includes(to);
      })
      .map((target) => `${file} -> ${target}`),
  );
  expect(violations).toEqual([]);
});

test("every layer of src is in the table", () => {
  expect([...new Set(files.map(layerOf))].sort()).toEqual(Object.keys(ALLOWED).sort());
});

test("no file of src imports itself through others", () => {
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) {
      circles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
      return;
    }
    if (done.has(file)) return;
    for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  expect(circles).toEqual([]);
});

test("the use cases and the ports do not import generated messages", () => {
  const offenders = files.filter(
    (file) =>
      /^src\/(memory|storage|embedding)\//.test(file) &&
      /from "(memory-service-client|@bufbuild|@connectrpc)/.test(readFileSync(join(root, file), "utf8")),
  );
  expect(offenders).toEqual([]);
});

test("folders of src stay small", () => {
  const counts = new Map<string, number>();
  for (const file of files) counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1);
  expect([...counts].filter(([, count]) => count > MAX_FILES_PER_FOLDER)).toEqual([]);
});
