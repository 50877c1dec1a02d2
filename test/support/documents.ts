import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The directory of the checkout. */
export const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** A page of the documentation. */
export interface Page {
  /** The path within the checkout, for example `docs/api.md`. */
  readonly path: string;
  readonly text: string;
}

/** Returns every page of the documentation. */
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

/** Returns the fenced code blocks of one language, in order. */
export function blocksOf(page: Page, language: string): string[] {
  const fences = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm");
  return [...page.text.matchAll(fences)].map(([, code]) => code ?? "");
}

/** Returns the fenced code block of one language at `index`. @throws if it does not exist. */
export function blockOf(page: Page, language: string, index = 0): string {
  const block = blocksOf(page, language)[index];
  if (block === undefined) throw new Error(`${page.path} has no block ${index} in ${language}`);
  return block;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** The working directory. Defaults to the checkout. */
  readonly directory?: string;
  /** The server to use instead of 127.0.0.1:50051. */
  readonly url?: string;
}

/** Runs code in a shell that stops at the first failure, and returns its output. */
export async function runShell(code: string, options: RunOptions = {}): Promise<string> {
  return await runCode("bash", ["-euo", "pipefail", "-s"], code, options);
}

/** Runs a TypeScript program with this Node, and returns its output. */
export async function runTypeScript(code: string, options: RunOptions = {}): Promise<string> {
  return await runCode(process.execPath, ["--input-type=module-typescript"], code, options);
}

/** Parses the JSON objects that buf curl prints one after the other: each ends with a brace at the start of a line. */
// biome-ignore lint/suspicious/noExplicitAny: tests read responses as untyped JSON
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

/** Returns the directory where scripts/check-protoc.sh has installed grpcio-tools, or nothing if it has not run here. */
export function pythonPackages(): string[] {
  const version = /GRPCIO_TOOLS=(\S+)/.exec(readPage("scripts/check-protoc.sh").text)?.[1];
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const packages = join(cache, "memory-service", "protoc", `python-${version}`);
  return existsSync(join(packages, ".complete")) ? [packages] : [];
}
