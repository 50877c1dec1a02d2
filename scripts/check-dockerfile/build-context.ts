import { cpSync, lstatSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Whether a relative path with / as separator is part of the build context. */
export type IsSent = (path: string) => boolean;

/**
 * Reads the rules of a .dockerignore. The last rule that matches a path or one of its parent directories decides; `!`
 * includes a path again.
 *
 * @throws Error for a pattern that this check does not support.
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

/** Compiles a pattern: `*` and `?` match within a name, `**` matches any number of directories. */
function patternOf(written: string): RegExp {
  const pattern = written.trim().replace(/^\.?\/+|\/+$/g, "");
  if (pattern === "" || /[[\]\\]/.test(pattern)) {
    throw new Error(`.dockerignore: this check does not support ${written}`);
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
 * Returns why a source of COPY is not in the build context; undefined if it is. A directory is in the build context if
 * any of its files is.
 */
export function missingSource(root: string, isSent: IsSent, source: string): string | undefined {
  const path = source.replace(/^\.?\/+|\/+$/g, "");
  const stats = lstatSync(join(root, path), { throwIfNoEntry: false });
  if (stats === undefined) return `${source} does not exist`;
  const found = stats.isDirectory() ? sentFiles(root, isSent, path).next().done !== true : isSent(path);
  return found ? undefined : `.dockerignore excludes ${source}`;
}

/** Copies the build context. Returns the number of files. */
export function copyContext(root: string, isSent: IsSent, destination: string): number {
  let count = 0;
  for (const path of sentFiles(root, isSent, "")) {
    mkdirSync(join(destination, path, ".."), { recursive: true });
    cpSync(join(root, path), join(destination, path), { verbatimSymlinks: true, preserveTimestamps: true });
    count += 1;
  }
  return count;
}

/** Lists the files and symbolic links of the build context below a directory. */
function* sentFiles(root: string, isSent: IsSent, directory: string): Generator<string> {
  for (const entry of readdirSync(join(root, directory), { withFileTypes: true })) {
    const path = directory === "" ? entry.name : `${directory}/${entry.name}`;
    // Skip the history and the installed packages: they are most of a checkout, and no rule includes a part of them.
    if (entry.isDirectory() && (isSent(path) || ![".git", "node_modules"].includes(entry.name))) {
      yield* sentFiles(root, isSent, path);
    } else if (!entry.isDirectory() && isSent(path)) {
      yield path;
    }
  }
}
