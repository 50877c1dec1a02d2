import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { version } = readJson(join(root, "package.json"));
const { peerDependencies } = readJson(join(root, "gen/package.json"));

/** The package of the oldest supported Node, if npm has one for this platform. The tests use it besides this Node. */
const oldest = process.platform === "linux" ? `node-linux-${process.arch}` : undefined;
const olderNodes = oldest === undefined ? [] : ["Node 22.18"];
const nodes = ["this Node", ...olderNodes];

/** npm is slow on a busy machine. */
const timeout = 180_000;
vi.setConfig({ testTimeout: timeout });

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
/** Two projects: one installs only the client, the other installs the server. */
let clientProject: string;
let serverProject: string;
const tarball = (name: string) => join(directory.path, `${name}-${version}.tgz`);

beforeAll(async () => {
  directory = await temporaryDirectory();
  clientProject = join(directory.path, "client-project");
  serverProject = join(directory.path, "server-project");
  await run("npm", ["pack", "--pack-destination", directory.path]);
  await run("npm", ["run", "client:pack", "--", "--pack-destination", directory.path]);
  const peers = ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-node"];
  const older = oldest === undefined ? [] : [`${oldest}@22.18.0`];
  await Promise.all([
    install(clientProject, [
      tarball("memory-service-client"),
      ...peers.map((name) => `${name}@${peerDependencies[name]}`),
      ...older,
    ]),
    install(serverProject, [tarball("memory-service"), tarball("memory-service-client")]),
  ]);
}, timeout);

const servers: ChildProcess[] = [];

afterAll(async () => {
  for (const server of servers) signalGroup(server, "SIGKILL");
  await directory?.remove();
});

describe("the client package", () => {
  const installed = () => join(clientProject, "node_modules/memory-service-client");

  test("contains what a consumer needs and nothing else", () => {
    const generated = filesIn(join(root, "gen/src")).map((file) => `src/${file}`);
    const compiled = filesIn(join(root, "gen/client"))
      .map((file) => `client/${file.replace(/\.ts$/, "")}`)
      .flatMap((path) => [`${path}.js`, `${path}.d.ts`]);
    expect(filesIn(installed())).toEqual(
      ["LICENSE", "README.md", "package.json", ...generated, ...compiled].toSorted(),
    );
  });

  test("imports only compiled files", () => {
    const compiled = filesIn(installed()).filter((file) => /^client\/.*\.(js|d\.ts)$/.test(file));
    expect(compiled.length).toBeGreaterThan(20);
    for (const file of compiled) {
      expect(readFileSync(join(installed(), file), "utf8"), file).not.toMatch(/"\.[^"]*(?<!\.d)\.ts"/);
    }
  });

  test("refuses to be packed from its sources", async () => {
    const packing = run("npm", ["pack", "--dry-run", "--workspace", "memory-service-client"]);
    await expect(packing).rejects.toThrow("npm run client:pack");
  });

  test("installs no packages except its peers", () => {
    const { packages } = readJson(join(clientProject, "package-lock.json"));
    const names = Object.keys(packages).map((path) => path.replace("node_modules/", ""));
    const expected = ["", "memory-service-client", ...Object.keys(peerDependencies), oldest ?? ""];
    expect(names.filter((name) => !expected.includes(name))).toEqual([]);
  });

  test("resolves with its types wherever ES modules are supported", async () => {
    const messages = filesIn(join(installed(), "src"))
      .filter((file) => file.endsWith("_pb.js"))
      .map((file) => `./${file}`);
    expect(messages).toHaveLength(6);
    await run("attw", [
      tarball("memory-service-client"),
      ...["--profile", "esm-only", "--entrypoints", ".", ...messages],
    ]);
    await run("publint", [tarball("memory-service-client"), "--strict"]);
  });

  test.each([
    ["nodenext", "nodenext"],
    ["esnext", "bundler"],
  ])("compiles with module %s and resolution %s", async (module, moduleResolution) => {
    // This also checks the declarations, without Node's types, because browsers do not have them.
    const options = {
      strict: true,
      target: "es2022",
      lib: ["es2022", "dom"],
      types: [],
      skipLibCheck: false,
    };
    const config = {
      compilerOptions: {
        ...options,
        module,
        moduleResolution,
        rootDir: ".",
        outDir: `out-${moduleResolution}`,
      },
      files: ["client.ts", "messages.ts"],
    };
    const [client = "", messages = ""] = readmeExamples();
    await writeFile(join(clientProject, "client.ts"), client);
    await writeFile(join(clientProject, "messages.ts"), messages);
    const file = join(clientProject, `tsconfig.${moduleResolution}.json`);
    await writeFile(file, JSON.stringify(config));
    await run("tsc", ["-p", file]);
  });
});

describe("the server package", () => {
  const installed = () => join(serverProject, "node_modules/memory-service");

  test("contains what it needs to run and nothing else", () => {
    const built = filesIn(join(root, "src")).map((file) => `dist/${file.replace(/\.ts$/, ".js")}`);
    const proto = filesIn(join(root, "proto/memoryservice")).map((file) => `proto/memoryservice/${file}`);
    const sql = filesIn(join(root, "sql")).map((file) => `sql/${file}`);
    expect(filesIn(installed())).toEqual(
      ["LICENSE", "README.md", "package.json", ...built, ...proto, ...sql].toSorted(),
    );
  });

  test("passes publint", async () => {
    await run("publint", [tarball("memory-service"), "--strict"]);
  });

  test("serves through npx on this Node, and the client's example runs on every Node", async () => {
    const server = await serveByNpx("this Node");
    for (const node of nodes) await runExample(server.url, node);
    await server.stop();
  });

  test.each(olderNodes)("serves through npx on %s", async (node) => {
    const server = await serveByNpx(node);
    await runExample(server.url, "this Node");
    await server.stop();
  });
});

/** Runs the compiled example from the client's README and checks its output. */
async function runExample(url: string, node: string): Promise<void> {
  const example = readFileSync(join(clientProject, "out-nodenext/client.js"), "utf8")
    .replace("http://127.0.0.1:50051", url)
    // Every run needs its own domain, because the output depends on what is stored there.
    .replaceAll('"startup"', JSON.stringify(`on-${node.toLowerCase().replaceAll(/\W/g, "-")}`));
  const args = ["--input-type=module", "--eval", example];
  const { stdout } = await promisify(execFile)(join(nodeDirectory(node), "node"), args, {
    cwd: clientProject,
    timeout: 60_000,
  });
  const [found, hit, summary, error] = stdout.trim().split("\n");
  expect(found).toBe("true The board meets on Tuesdays");
  expect(hit).toMatch(/^0\.\d+ The board meets on Tuesdays$/);
  expect(summary).toMatch(/^\d 1$/);
  expect(error).toMatch(/^domain "nowhere" does not exist/);
}

/** Starts the server in its project with a new data directory. */
async function serveByNpx(node: string) {
  const ours = /^(MEMORY_|POSTGRES_|OLLAMA_|DATABASE_URL$|DEFAULT_MEMORY_DOMAIN$|NODE_OPTIONS$|PG)/;
  const others = Object.entries(environmentWith(nodeDirectory(node))).filter(([name]) => !ours.test(name));
  const data = join(directory.path, `data-${crypto.randomUUID()}`);
  const server = spawn("npx", ["--no", "memory-service", "serve"], {
    cwd: serverProject,
    env: {
      ...Object.fromEntries(others),
      MEMORY_PORT: "0",
      MEMORY_DATA_DIR: data,
      OLLAMA_API_URL: "http://127.0.0.1:1",
    },
    // In its own process group, a signal reaches the server and not only npx.
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  servers.push(server);
  const closed = once(server, "close");
  let output = "";
  server.stderr.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const logged: string[] = [];
  const serving = new Promise<string>((resolve) => {
    createInterface(server.stdout).on("line", (line) => {
      logged.push(line);
      const { msg, url } = parseLine(line);
      if (msg === "serving" && url !== undefined) resolve(url);
    });
  });
  const stop = async () => {
    signalGroup(server, "SIGTERM");
    await closed;
    expect(parseLine(logged.at(-1) ?? "").msg).toBe("stopped");
  };
  const url = await Promise.race([serving, closed.then(() => undefined)]);
  if (url === undefined) throw new Error(`the server exited: ${output}\n${logged.join("\n")}`);
  return { url, stop };
}

function signalGroup({ pid, exitCode, signalCode }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, signal);
}

function parseLine(line: string): { readonly msg?: string; readonly url?: string } {
  return line.startsWith("{") ? JSON.parse(line) : {};
}

function readmeExamples(): string[] {
  const readme = readFileSync(join(root, "gen/README.md"), "utf8");
  return [...readme.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code]) => code ?? "");
}

async function install(project: string, packages: readonly string[]): Promise<void> {
  await mkdir(project);
  await writeFile(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  const quiet = ["--prefer-offline", "--no-audit", "--no-fund"];
  await run("npm", ["install", ...quiet, ...packages], { cwd: project });
}

/** Runs npm or a program from node_modules. If it fails, the error contains its output. */
async function run(command: string, args: readonly string[], { cwd = root } = {}): Promise<void> {
  const env = environmentWith(dirname(process.execPath), join(root, "node_modules/.bin"));
  await promisify(execFile)(command, args, { cwd, env, timeout }).catch((error) => {
    throw new Error(`${command} ${args.join(" ")}: ${error.message}\n${error.stdout}`);
  });
}

function environmentWith(...directories: readonly string[]): NodeJS.ProcessEnv {
  return { ...process.env, PATH: [...directories, process.env.PATH ?? ""].join(delimiter) };
}

function nodeDirectory(name: string): string {
  if (name === "this Node") return dirname(process.execPath);
  return join(clientProject, "node_modules", oldest ?? "", "bin");
}

/** Returns the relative paths of all files below a directory, sorted. */
function filesIn(path: string): string[] {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(path.length + 1))
    .toSorted();
}

// biome-ignore lint/suspicious/noExplicitAny: the tests read JSON of known shape
function readJson(path: string): any {
  return JSON.parse(readFileSync(path, "utf8"));
}
