import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The checkout. */
export const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** A page that people read. */
export interface Page {
  /** Within the checkout: `docs/api.md`. */
  readonly path: string;
  readonly text: string;
}

/** Every page of the documentation. */
export function pages(): Page[] {
  const docs = readdirSync(`${root}/docs`).map((name) => `docs/${name}`);
  const others = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "gen/README.md",
    "bench/README.md",
  ];
  return [...others, ...docs.filter((path) => path.endsWith(".md"))].map(readPage);
}

export function readPage(path: string): Page {
  return { path, text: readFileSync(`${root}/${path}`, "utf8") };
}

/** The fenced blocks of one language, in order. */
export function blocksOf(page: Page, language: string): string[] {
  const fences = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm");
  return [...page.text.matchAll(fences)].map(([, code]) => code ?? "");
}

/** A block of which there is just one, or the one at `index`. @throws if there is none. */
export function blockOf(page: Page, language: string, index = 0): string {
  const block = blocksOf(page, language)[index];
  if (block === undefined) throw new Error(`${page.path} has no block ${index} in ${language}`);
  return block;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Default: the checkout. */
  readonly directory?: string;
  /** Stands in the code as 127.0.0.1:50051: the server to use in its place. */
  readonly url?: string;
}

/** Runs a block in a shell that stops at the first failure, and returns what it prints. */
export async function runShell(code: string, options: RunOptions = {}): Promise<string> {
  return await runCode("bash", ["-euo", "pipefail", "-s"], code, options);
}

/** Runs a TypeScript program with this Node, and returns what it prints. */
export async function runTypeScript(code: string, options: RunOptions = {}): Promise<string> {
  return await runCode(process.execPath, ["--input-type=module-typescript"], code, options);
}

/** Parses the JSON objects that buf curl prints one after the other: each ends with a brace at the start of a line. */
// biome-ignore lint/suspicious/noExplicitAny: answers are looked into as a reader of JSON would
export function answersIn(text: string): any[] {
  return text
    .split(/(?<=^\}|^\{\})\n/m)
    .filter((part) => part.trim() !== "")
    .map((part) => JSON.parse(part));
}

async function runCode(
  command: string,
  args: readonly string[],
  code: string,
  { env, directory = root, url }: RunOptions,
): Promise<string> {
  const here = url === undefined ? code : code.replaceAll("127.0.0.1:50051", new URL(url).host);
  const running = promisify(execFile)(command, args, {
    cwd: directory,
    env: { ...process.env, ...env },
    timeout: 100_000,
  });
  running.child.stdin?.end(here);
  return (await running).stdout;
}

/** The directory where scripts/check-protoc.sh keeps grpcio-tools, or nothing if it has never run on this machine. */
export function pythonPackages(): string[] {
  const version = /GRPCIO_TOOLS=(\S+)/.exec(readPage("scripts/check-protoc.sh").text)?.[1];
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const packages = join(cache, "memory-service", "protoc", `python-${version}`);
  return existsSync(join(packages, ".complete")) ? [packages] : [];
}
