import { chmod, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import {
  answersIn,
  blockOf,
  blocksOf,
  pythonPackages,
  readPage,
  root,
  runShell,
  runTypeScript,
} from "../support/documents.ts";
import { type ServerProcess, startServerProcess } from "../support/server/server-process.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

vi.setConfig({ testTimeout: 120_000 });

const page = readPage("docs/separate-users.md");
const [bufCurl = "", commands = "", createKey = ""] = blocksOf(page, "sh");

// The examples have the same results with full-text search as with semantic search.
const withoutEmbedder = { OLLAMA_API_URL: "http://127.0.0.1:9" };

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let server: ServerProcess;

beforeAll(async () => {
  directory = await temporaryDirectory();
  const bin = join(directory.path, "bin");
  await mkdir(bin);
  const command = join(bin, "memory-service");
  await writeFile(command, `#!/bin/sh\nexec '${process.execPath}' '${root}/src/main.ts' "$@"\n`);
  await chmod(command, 0o755);
  server = await startServerProcess({
    env: { ...withoutEmbedder, MEMORY_DATA_DIR: join(directory.path, "data") },
  });
});

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await directory?.remove();
});

const path = () => `${join(directory.path, "bin")}:${process.env.PATH}`;

test("has only blocks that this file runs", () => {
  const languages = [...page.text.matchAll(/^ *```(\w+)$/gm)].map(([, language]) => language);
  expect(languages).toEqual(["json", "ts", "text", "python", "text", "sh", "sh", "sh", "json"]);
});

test("the TypeScript program prints what the page shows", async () => {
  expect(await runTypeScript(blockOf(page, "ts"), { url: server.url })).toBe(blockOf(page, "text"));
});

// Runs only where scripts/check-protoc.sh has installed grpcio-tools, because tests install nothing.
test.each(pythonPackages())("the Python program prints what the page shows", async (packages) => {
  await mkdir(join(directory.path, "proto"));
  await symlink(`${root}/proto/memoryservice`, join(directory.path, "proto/memoryservice"));
  const clients = readPage("docs/clients.md");
  const generate = /mkdir -p generated\n[\s\S]*?\*\.proto/.exec(clients.text)?.[0] ?? "";
  const program = `PYTHONPATH=generated:${packages} python3 - <<'PROGRAM'\n${blockOf(page, "python")}\nPROGRAM\n`;
  const printed = await runShell(`${generate}\n${program}`, {
    url: server.url,
    directory: directory.path,
    env: { PYTHONPATH: packages },
  });
  expect(printed).toBe(blockOf(page, "text", 1));
});

test("buf curl finds, lists, exports and counts the memories of one user", async () => {
  const storeForBen = `npx buf curl ${server.url}/memoryservice.v1.MemoryService/Store -d '{
    "id": "ben:music", "domain": "assistant", "content": "I play the cello, too", "metadata": {"user_id": "ben"}}'\n`;
  await runShell(storeForBen);
  const [stored, found, listed, ...exported] = answersIn(await runShell(bufCurl, { url: server.url }));
  expect(stored).toMatchObject({ memory: { id: "ana:music" } });
  expect(found).toMatchObject({ hits: [{ memory: { id: "ana:music" } }] });
  const ids = ["ana:music", "ana:city", "ana:diet"];
  expect(listed).toMatchObject({ memories: ids.map((id) => ({ id })) });
  expect(exported.pop()).toEqual({ matched: "3" });
  const records = exported.flatMap(({ record }) => (record === undefined ? [] : [record.memory.id]));
  expect(records).toEqual(ids.toReversed());
});

test("the commands find, list and export the memories of one user", async () => {
  const printed = await runShell(commands, {
    directory: directory.path,
    env: { PATH: path(), MEMORY_PORT: new URL(server.url).port },
  });
  const [stored, found, ...listed] = printed
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(stored).toMatchObject({ outcome: "STORE_OUTCOME_CREATED" });
  expect(found).toMatchObject({ hits: [{ memory: { id: "ana:choir" } }] });
  const ids = ["ana:choir", "ana:music", "ana:city", "ana:diet"];
  expect(listed.map(({ id }) => id)).toEqual(ids);
  const lines = (await readFile(join(directory.path, "ana.jsonl"), "utf8")).trim().split("\n");
  const records = lines.map((line) => JSON.parse(line).record?.memory.id).filter((id) => id !== undefined);
  expect(records).toEqual(ids.toReversed());
});

test("an assistant with a key for one domain cannot access any other", async () => {
  const printed = await runShell(createKey, { directory: directory.path, env: { PATH: path() } });
  const key = /msk_\S+/.exec(printed)?.[0] ?? "";
  await using guarded = await startServerProcess({
    env: {
      ...withoutEmbedder,
      MEMORY_DATA_DIR: join(directory.path, "guarded"),
      MEMORY_API_KEYS_FILE: join(directory.path, "keys"),
    },
  });
  const config = blocksOf(page, "json")
    .at(-1)
    ?.replace("http://127.0.0.1:50051", guarded.url)
    .replace("msk_...", key);
  const { command, args, env } = JSON.parse(config ?? "").mcpServers.memory;
  const transport = new StdioClientTransport({
    command,
    args,
    env: { ...env, PATH: path() },
    stderr: "ignore",
  });
  const assistant = new Client({ name: "test", version: "1" });
  await assistant.connect(transport);
  try {
    const store = (memory: Readonly<Record<string, string>>) =>
      assistant.callTool({ name: "store_memory", arguments: { content: "I am Ana", ...memory } });
    expect((await store({ domain: "user-ana" })).isError ?? false).toBe(false);
    expect((await store({ domain: "user-ben" })).isError).toBe(true);
    expect((await store({})).isError).toBe(true);
    const domains = await assistant.callTool({ name: "list_memory_domains", arguments: {} });
    expect(domains.structuredContent).toEqual({ result: ["user-ana"] });
  } finally {
    await assistant.close();
  }
});
