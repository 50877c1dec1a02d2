/**
 * Builds the package that is published, in gen/dist: `npm run client:build`.
 *
 * In this repository the package exports its TypeScript sources, so nothing has to be built to run, test or edit the
 * project. Node does not run TypeScript from node_modules, so the published package has compiled JavaScript with
 * declarations in the same places.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const source = import.meta.dirname;
const target = join(source, "dist");

rmSync(target, { recursive: true, force: true });
mkdirSync(target);
compile();
cpSync(join(source, "src"), join(target, "src"), { recursive: true });
copyFileSync(join(source, "README.md"), join(target, "README.md"));
copyFileSync(join(source, "../LICENSE"), join(target, "LICENSE"));
writeManifest();

function compile(): void {
  const tsc = createRequire(import.meta.url).resolve("typescript/package.json");
  const { status } = spawnSync(process.execPath, [join(tsc, "../bin/tsc"), "-p", "tsconfig.build.json"], {
    cwd: source,
    stdio: "inherit",
  });
  if (status !== 0) throw new Error(`tsc failed with status ${status}`);
  // tsc does not rewrite import paths in declarations: https://github.com/microsoft/TypeScript/issues/61037
  const declarations = readdirSync(join(target, "client")).filter((name) => name.endsWith(".d.ts"));
  for (const path of declarations.map((name) => join(target, "client", name))) {
    writeFileSync(path, readFileSync(path, "utf8").replaceAll(/(from "\.\/[^"]+)\.ts"/g, '$1.js"'));
  }
}

/** Writes package.json without what only this repository needs, and with exports of the compiled files. */
function writeManifest(): void {
  const { private: _, scripts, ...manifest } = JSON.parse(readFileSync(join(source, "package.json"), "utf8"));
  const exports = replaceSources(manifest.exports);
  writeFileSync(join(target, "package.json"), `${JSON.stringify({ ...manifest, exports }, null, 2)}\n`);
}

/** Replaces each path of a TypeScript source in an `exports` object by those of its declarations and its JavaScript. */
function replaceSources(exports: unknown): unknown {
  if (typeof exports === "string") {
    const path = /^(\.\/client\/.*)\.ts$/.exec(exports)?.[1];
    return path === undefined ? exports : { types: `${path}.d.ts`, default: `${path}.js` };
  }
  if (typeof exports !== "object" || exports === null) return exports;
  return Object.fromEntries(Object.entries(exports).map(([key, value]) => [key, replaceSources(value)]));
}
