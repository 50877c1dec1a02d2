import { execFile } from "node:child_process";
import { mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { readConfig } from "../../src/app/config.ts";
import { SETTINGS, type Setting } from "../../src/app/settings.ts";
import { type App, startApp } from "../../src/app/start-app.ts";
import {
  blockOf,
  blocksOf,
  pythonPackages,
  readPage,
  root,
  runShell,
  runTypeScript,
} from "../support/documents.ts";
import { silentLogger } from "../support/silent-logger.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const readme = readPage("README.md");

test("the ten settings exist and have the defaults that the table shows", () => {
  const rows = [...readme.text.matchAll(/^\| `([A-Z_]+)` \| (?:`(.*?)`)? *\|/gm)];
  expect(rows).toHaveLength(10);
  const settings: Readonly<Record<string, Setting<unknown>>> = SETTINGS;
  for (const [, name = "", shown] of rows) {
    const standard = settings[name]?.default;
    expect([name, name in settings, shown]).toEqual([
      name,
      true,
      standard === undefined ? undefined : String(standard),
    ]);
  }
});

test("has only blocks that this file runs", () => {
  const languages = [...readme.text.matchAll(/^```(\w+)$/gm)].map(([, language]) => language);
  expect(languages).toEqual(["console", "sh", "json", "ts", "sh", "python"]);
});

describe("the README", { timeout: 90_000 }, () => {
  let app: App;
  let ollama: FakeOllama;
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

  beforeAll(async () => {
    ollama = await startFakeOllama();
    directory = await temporaryDirectory();
    const environment = {
      MEMORY_PORT: "0",
      MEMORY_DATA_DIR: join(directory.path, "data"),
      OLLAMA_API_URL: ollama.url,
    };
    app = await startApp(readConfig(environment), silentLogger);
  });

  afterAll(async () => {
    await app?.close();
    await ollama?.close();
    await directory?.remove();
  });

  /** Returns the environment of commands that call this server, without the output of npm itself. */
  const environment = () => ({ MEMORY_PORT: new URL(app.url).port, npm_config_loglevel: "silent" });

  test("stores two memories and finds them", async () => {
    const printed = await runShell(blockOf(readme, "sh"), { env: environment() });
    const [shipping, coffee, search] = parseLines(printed);
    expect([shipping.outcome, coffee.outcome]).toEqual(["STORE_OUTCOME_CREATED", "STORE_OUTCOME_CREATED"]);
    expect(search.hits[0].memory.id).toBe("shipping");
    expect(search.info.degraded ?? false).toBe(false);
  });

  test("shows the real output of a semantic search, except for the scores of the model", async () => {
    const [, command = "", shown = ""] = /^\$ (.*)\n([\s\S]*)$/.exec(blockOf(readme, "console")) ?? [];
    expect(await runOnTerminal(command, environment())).toBe(withoutScores(shown));
  });

  test("connects an assistant, which then has the listed tools", async () => {
    const config = blockOf(readme, "json")
      .replace("/path/to/memory-service", root)
      .replace("http://127.0.0.1:50051", app.url);
    const { command, args } = JSON.parse(config).mcpServers.memory;
    const transport = new StdioClientTransport({ command, args, stderr: "ignore" });
    const assistant = new Client({ name: "test", version: "1" });
    await assistant.connect(transport);
    try {
      const { tools } = await assistant.listTools();
      const section = /## Use it from an assistant[\s\S]*?```/.exec(readme.text)?.[0] ?? "";
      const named = section.match(/`\w+_\w+`/g) ?? [];
      expect(named.sort()).toEqual(tools.map(({ name }) => `\`${name}\``).sort());

      const found = await assistant.callTool({
        name: "search_memories",
        arguments: { query: "which coffee does she like?", domain: "team", limit: 1 },
      });
      expect(JSON.stringify(found)).toContain("Mira loves espresso");
    } finally {
      await assistant.close();
    }
  });

  test("stores and streams with the TypeScript client", async () => {
    const program = blockOf(readme, "ts");
    expect(await runTypeScript(program, { url: app.url })).toBe("The board meets on Tuesdays\n");
  });

  // Runs only where scripts/check-protoc.sh has installed grpcio-tools, because tests install nothing.
  test.each(pythonPackages())("stores and searches with the Python stubs", async (packages) => {
    await mkdir(join(directory.path, "proto"));
    await symlink(`${root}/proto/memoryservice`, join(directory.path, "proto/memoryservice"));
    const generate = blocksOf(readme, "sh")[1]?.replace(/^python3 -m pip install .*\n/, "") ?? "";
    const program = `PYTHONPATH=generated:${packages} python3 - <<'PROGRAM'\n${blockOf(readme, "python")}\nPROGRAM\n`;
    const printed = await runShell(`${generate}\n${program}`, {
      url: app.url,
      directory: directory.path,
      env: { PYTHONPATH: packages },
    });
    expect(printed).toBe("The retro is on Mondays\n");
  });
});

/** Runs a command on a terminal and returns its output without scores. */
async function runOnTerminal(command: string, env: Readonly<Record<string, string>>): Promise<string> {
  const quiet = `${command} 2>/dev/null`;
  const { stdout } = await promisify(execFile)(
    "script",
    ["--quiet", "--return", "--command", quiet, "/dev/null"],
    {
      cwd: root,
      env: { ...process.env, ...env },
      timeout: 60_000,
    },
  );
  return withoutScores(stdout.replaceAll("\r\n", "\n"));
}

function withoutScores(hits: string): string {
  return hits.replaceAll(/-?\d\.\d{4}/g, "#");
}

/** Parses the output of commands: one JSON object per line. */
// biome-ignore lint/suspicious/noExplicitAny: tests read responses as untyped JSON
function parseLines(text: string): any[] {
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}
