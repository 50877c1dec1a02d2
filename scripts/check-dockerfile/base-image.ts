import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  symlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { mustRun, StepError } from "./command.ts";

/** Files that a slim image omits. */
const OMITTED = /^\/(usr\/share\/(doc|man|info|locale|lintian|linda|groff)|var\/lib\/dpkg)\//;

/** Libraries that Node links against; the rest of the tree is part of every Debian. */
const NEEDED_BY_NODE = ["libstdc++6", "libgcc-s1"];

/** Packs the files listed on standard input. */
const PACK = "tar -C / --create --no-recursion --files-from=-";

/** Returns the variables that the base image sets. */
export function baseEnvironment(nodeVersion: string): Record<string, string> {
  return { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NODE_VERSION: nodeVersion };
}

/**
 * Creates a directory tree like the slim image of Node: Debian's required packages as they are installed on this
 * machine (without a compiler, Python, git or curl), the Node that runs this program, this machine's npm, and the user
 * `node`.
 *
 * @throws StepError
 */
export async function makeBaseImage(tree: string): Promise<void> {
  mkdirSync(tree);
  const files = (await mustRun(["dpkg-query", "--listfiles", ...(await requiredPackages())]))
    .split("\n")
    .filter((path) => path.startsWith("/") && path !== "/." && !OMITTED.test(path) && existsSync(path))
    // The package lists /bin/sh, but the file is /usr/bin/sh on a machine whose /bin is a symbolic link.
    .map((path) => join(realpathSync(dirname(path)), basename(path)));
  await mustRun(["sh", "-c", `${PACK} | tar -C "$0" --extract`, tree], {
    input: `${[...new Set(files)]
      .sort()
      .map((path) => path.slice(1))
      .join("\n")}\n`,
  });
  addAlternatives(tree);

  for (const directory of ["dev", "proc", "sys", "mnt", "root", "home"]) {
    mkdirSync(join(tree, directory), { recursive: true });
  }
  mkdirSync(join(tree, "tmp"), { recursive: true });
  chmodSync(join(tree, "tmp"), 0o1777);
  for (const name of ["passwd", "group"]) {
    cpSync(join(tree, `usr/share/base-passwd/${name}.master`), join(tree, "etc", name));
  }
  appendFileSync(join(tree, "etc/passwd"), "node:x:1000:1000::/home/node:/bin/bash\n");
  appendFileSync(join(tree, "etc/group"), "node:x:1000:\n");
  await mustRun(["install", "-d", "-o", "1000", "-g", "1000", join(tree, "home/node")]);

  mkdirSync(join(tree, "usr/local/bin"), { recursive: true });
  cpSync(process.execPath, join(tree, "usr/local/bin/node"));
  const npm = await installedNpm();
  cpSync(npm, join(tree, "usr/local/lib/node_modules/npm"), { recursive: true, verbatimSymlinks: true });
  for (const name of ["npm", "npx"]) {
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(tree, "usr/local/bin", name));
  }
}

/** Lists the packages that every Debian has, with their dependencies. */
async function requiredPackages(): Promise<string[]> {
  const fields = ["Package", "binary:Package", "Essential", "Priority", "Pre-Depends", "Depends", "Provides"];
  const format = `${fields.map((field) => `\${${field}}`).join("\\t")}\\n`;
  const byName = new Map<string, { binary: string; needs: string[][] }>();
  const wanted = [...NEEDED_BY_NODE];
  for (const line of (await mustRun(["dpkg-query", "--show", `--showformat=${format}`])).split("\n")) {
    const [name, binary, essential, priority, before, later, provides = ""] = line.split("\t");
    if (name === undefined || binary === undefined) continue;
    const entry = {
      binary,
      needs: `${before},${later}`.split(",").map((need) => need.split("|").map(packageName)),
    };
    if (!byName.has(name)) byName.set(name, entry);
    for (const other of provides.split(",").map(packageName)) {
      if (other !== "" && !byName.has(other)) byName.set(other, entry);
    }
    if (essential === "yes" || priority === "required") wanted.push(name);
  }
  const chosen = new Set<string>();
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    const entry = byName.get(name);
    if (entry === undefined || chosen.has(entry.binary)) continue;
    chosen.add(entry.binary);
    for (const alternatives of entry.needs) {
      wanted.push(...alternatives.filter((alternative) => byName.has(alternative)).slice(0, 1));
    }
  }
  return [...chosen];
}

/** Returns the package name of a dependency, such as libc6 for "libc6:any (>= 2.36)". */
function packageName(dependency: string): string {
  return dependency.trim().split(/[\s:(]/)[0] ?? "";
}

/** Adds names such as awk that no package contains: links through /etc/alternatives to a program in the tree. */
function addAlternatives(tree: string): void {
  mkdirSync(join(tree, "etc/alternatives"), { recursive: true });
  for (const name of readdirSync("/etc/alternatives")) {
    const link = `/usr/bin/${name}`;
    const through = join("/etc/alternatives", name);
    if (!lstatSync(through).isSymbolicLink() || !existsSync(join(tree, readlinkSync(through)))) continue;
    if (!lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink() || readlinkSync(link) !== through)
      continue;
    symlinkSync(readlinkSync(through), join(tree, through));
    symlinkSync(through, join(tree, link));
  }
}

/** Returns the directory of the npm in the caller's PATH. */
async function installedNpm(): Promise<string> {
  const found = (process.env.PATH ?? "")
    .split(":")
    .map((directory) => join(directory, "npm"))
    .find((path) => existsSync(path));
  if (found === undefined) throw new StepError("npm is missing");
  const directory = dirname(dirname(realpathSync(found)));
  const { name } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as { name?: string };
  if (basename(directory) !== "npm" || name !== "npm")
    throw new StepError(`${found} is not an installation of npm`);
  return directory;
}
