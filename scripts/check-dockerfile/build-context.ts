import { cpSync, lstatSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Tells whether a path of the build context, relative and with /, is sent to the engine. */
export type IsSent = (path: string) => boolean;

/**
 * The rules of a .dockerignore: the last that matches a path, or a directory above it, decides; `!` takes back.
 *
 * @throws Error for a pattern that is not understood.
 */
export function readIgnoreRules(text: string): IsSent {
  const rules = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => ({ sends: line.startsWith("!"), pattern: patternOf(line.replace(/^!/, "")) }));
  return (path) => {
    const parts = path.split("/");
    const levels = parts.map((_, index) => parts.slice(0, index + 1).join("/"));
    return rules.reduce(
      (sent, rule) => (levels.some((level) => rule.pattern.test(level)) ? rule.sends : sent),
      true,
    );
  };
}

/** Compiles one pattern: `*` and `?` stay within a name, `**` is any number of directories. */
function patternOf(written: string): RegExp {
  const pattern = written.trim().replace(/^\.?\/+|\/+$/g, "");
  if (pattern === "" || /[[\]\\]/.test(pattern)) {
    throw new Error(`.dockerignore: ${written} is not understood by this check`);
  }
  const source = pattern.replace(/\*\*\/|\*\*|\*|\?|[.+^${}()|]/g, (token) => {
    if (token === "**/") return "(?:.*/)?";
    if (token === "**") return ".*";
    if (token === "*") return "[^/]*";
    return token === "?" ? "[^/]" : `\\${token}`;
  });
  return new RegExp(`^${source}$`);
}

/**
 * Says why a source of COPY is not in the build context; undefined: it is there.
 * A directory counts as there if anything in it is sent.
 */
export function missingSource(root: string, isSent: IsSent, source: string): string | undefined {
  const path = source.replace(/^\.?\/+|\/+$/g, "");
  const stats = lstatSync(join(root, path), { throwIfNoEntry: false });
  if (stats === undefined) return `${source} does not exist`;
  const found = stats.isDirectory() ? sentFiles(root, isSent, path).next().done !== true : isSent(path);
  return found ? undefined : `${source} is left out by .dockerignore`;
}

/** Copies what would be sent to the engine; returns how many files that are. */
export function copyContext(root: string, isSent: IsSent, destination: string): number {
  let count = 0;
  for (const path of sentFiles(root, isSent, "")) {
    mkdirSync(join(destination, path, ".."), { recursive: true });
    cpSync(join(root, path), join(destination, path), { verbatimSymlinks: true, preserveTimestamps: true });
    count += 1;
  }
  return count;
}

/** Files and symbolic links under a directory, without entering what no rule takes back. */
function* sentFiles(root: string, isSent: IsSent, directory: string): Generator<string> {
  for (const entry of readdirSync(join(root, directory), { withFileTypes: true })) {
    const path = directory === "" ? entry.name : `${directory}/${entry.name}`;
    // The history and the installed packages are most of a checkout, and no rule of ours sends a part of them.
    if (entry.isDirectory() && (isSent(path) || ![".git", "node_modules"].includes(entry.name))) {
      yield* sentFiles(root, isSent, path);
    } else if (!entry.isDirectory() && isSent(path)) {
      yield path;
    }
  }
}
