import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { withSettingsTable } from "../../scripts/write-settings-table.ts";
import { readConfig } from "../../src/app/config.ts";
import { type App, startApp } from "../../src/app/start-app.ts";
import { silentLogger } from "../support/silent-logger.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const readme = readFileSync(`${root}/README.md`, "utf8");

/** The fenced blocks of one language, in order. */
function blocks(language: string): string[] {
  const fences = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm");
  return [...readme.matchAll(fences)].map(([, code]) => code ?? "");
}

test("the table of settings is the one that the settings give", () => {
  expect(withSettingsTable(readme)).toBe(readme);
});

describe("the README's commands", { timeout: 90_000 }, () => {
  let app: App;
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

  beforeAll(async () => {
    directory = await temporaryDirectory();
    // Port 9 discards: no embedder there, as on a machine without Ollama.
    const environment = {
      MEMORY_PORT: "0",
      MEMORY_DATA_DIR: directory.path,
      OLLAMA_API_URL: "http://127.0.0.1:9",
    };
    app = await startApp(readConfig(environment), silentLogger);
  });

  afterAll(async () => {
    await app?.close();
    await directory?.remove();
  });

  /** Runs code of the README against this server instead of the default port. */
  async function run(command: string, args: readonly string[], code: string): Promise<string> {
    const here = code.replaceAll("127.0.0.1:50051", new URL(app.url).host);
    const running = promisify(execFile)(command, args, { cwd: root, timeout: 60_000 });
    running.child.stdin?.end(here);
    return (await running).stdout;
  }

  const shell = (code: string) => run("bash", ["-euo", "pipefail", "-s"], code);

  test("store, search and stream with buf curl, and give the answer it shows", async () => {
    const [store = "", search = ""] = blocks("sh");
    const stored = parseAll(await shell(store));
    expect(stored.map(({ outcome }) => outcome)).toEqual(["STORE_OUTCOME_CREATED", "STORE_OUTCOME_CREATED"]);

    const [funding, pressure, ...stream] = parseAll(await shell(search));
    const [shown = ""] = blocks("json");
    expect(shapeOf(funding)).toEqual(shapeOf(JSON.parse(shown)));
    expect(pressure.hits[0].memory.content).toBe("Blood pressure: 120/80");
    expect(stream.map((message) => Object.keys(message)[0])).toEqual(["info", "hit", "summary"]);
  });

  test.each(["client package", "generated client"])("store, search and stream with the %s", async (name) => {
    const [thin = "", generated = ""] = blocks("ts");
    const client = name === "client package" ? thin : generated;
    const printed = await run("node", ["--input-type=module-typescript"], client);
    expect(printed.trim().split("\n").sort()).toEqual([
      expect.stringMatching(/^[\d.]+ Series A funding round completed$/),
      "The board meets on Tuesdays",
    ]);
  });

  test("search with grpc-js", async () => {
    const [client = ""] = blocks("js");
    expect(await run("node", ["--input-type=module"], client)).toBe("The board meets on Tuesdays\n");
  });

  test("search with curl", async () => {
    const answer = JSON.parse(await shell(blocks("sh")[2] ?? ""));
    expect(answer.hits[0].memory.content).toBe("Series A funding round completed");
  });
});

/** JSON values printed one after the other, as buf curl does. */
// biome-ignore lint/suspicious/noExplicitAny: answers are looked into as a reader of JSON would
function parseAll(text: string): any[] {
  return JSON.parse(`[${text.trim().replaceAll(/^\}\n\{/gm, "},{")}]`);
}

/** An answer without what differs from run to run: ids, times and the last digits of scores. */
function shapeOf(answer: unknown): unknown {
  return JSON.parse(JSON.stringify(answer), (key, value) => {
    if (/^(id|createTime|updateTime)$/.test(key)) return "...";
    return typeof value === "number" ? Number(value.toFixed(3)) : value;
  });
}
