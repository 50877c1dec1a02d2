import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Memory_Embedding_State as State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import {
  blockOf,
  blocksOf,
  pythonPackages,
  readPage,
  root,
  runShell,
  runTypeScript,
} from "../support/documents.ts";
import { openGrpcClient, type ServerProcess, startServerProcess } from "../support/server/server-process.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

// The tests run in the order of the pages and share one server: some find what earlier ones have stored.

// Each test takes seconds; the time-out allows for a busy machine.
vi.setConfig({ testTimeout: 120_000 });

const quickStart = readPage("docs/quick-start.md");
const clients = readPage("docs/clients.md");
const operations = readPage("docs/operations.md");

let ollama: FakeOllama;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let server: ServerProcess;

beforeAll(async () => {
  ollama = await startFakeOllama();
  await ollama.down();
  directory = await temporaryDirectory();
  const tracing = join(directory.path, "tracing.mjs");
  await writeFile(tracing, blockOf(operations, "js"));
  await symlink(`${root}/node_modules`, join(directory.path, "node_modules"));
  server = await startServerProcess({
    env: { MEMORY_DATA_DIR: join(directory.path, "data"), OLLAMA_API_URL: ollama.url },
    nodeOptions: ["--import", tracing],
  });
});

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await ollama?.close();
  await directory?.remove();
});

const shell = (code: string, env?: Readonly<Record<string, string>>) =>
  runShell(code, { url: server.url, ...(env && { env }) });
const typeScript = (code: string) => runTypeScript(code, { url: server.url });

test("the program of the quick start prints what the page shows, without and with an embedder", async () => {
  const program = blockOf(quickStart, "ts");
  expect(await typeScript(program)).toBe(blockOf(quickStart, "text"));

  await ollama.up();
  await waitUntilEmbedded("clinic", 2);
  expect(await typeScript(program)).toBe(blockOf(quickStart, "text", 1));
});

test("the TypeScript programs print what the page shows", async () => {
  expect(await typeScript(blockOf(clients, "ts"))).toBe(blockOf(clients, "text"));
  expect(await typeScript(blockOf(clients, "ts", 1))).toBe("false\n");
});

test("buf curl lists, stores and streams", async () => {
  const printed = await shell(blockOf(clients, "sh"));
  expect(printed).toContain("memoryservice.v1.MemoryService/StreamSearch");
  expect(printed).toContain('"engine": "ENGINE_EMBEDDED"');
  expect(printed).toContain("STORE_OUTCOME_UNCHANGED");
  expect(printed).toContain('"summary"');
});

test("curl searches, and shows why a call fails", async () => {
  const found = JSON.parse(await shell(blockOf(clients, "sh", 1)));
  expect(found.hits[0].memory.id).toBe("tuesdays");
  const refused = JSON.parse(await shell(blockOf(clients, "sh", 2)));
  expect(refused).toEqual(JSON.parse(blockOf(clients, "json")));
});

test("the probes respond, and the page lists every metric", async () => {
  const [probes = "", metric = ""] = blocksOf(operations, "sh");
  const [alive, ready = ""] = (await shell(probes)).split("\n");
  expect(alive).toBe("ok");
  expect(JSON.parse(ready)).toMatchObject({ ready: true, checks: { embedder: { ok: true } } });
  expect(await shell(metric)).toContain("memory_service_embedder_available 1\n");

  const report = await (await fetch(`${server.url}/metrics`)).text();
  const served = [...report.matchAll(/^# HELP ((?:memory_service|rpc)_\w+)/gm)].map(([, name]) => name);
  const named = operations.text
    .replaceAll("`..._", "`memory_service_database_")
    .match(/\b(memory_service|rpc_server)_\w+/g);
  expect([...new Set(named)].sort()).toEqual(served.sort());
});

test("a log line has the fields that the page shows", () => {
  const shown = JSON.parse(blockOf(operations, "json"));
  const search = server.logs.find(({ method, hits }) => method === shown.method && hits !== undefined);
  expect(Object.keys(search ?? {}).sort()).toEqual(Object.keys(shown).sort());
});

test("the tracing program prints the spans of a call", () => {
  const lines = server.logs.map((line) => line.msg ?? "");
  for (const name of ["memoryservice.v1.MemoryService/Search", "sql fetch_memories", "embed"]) {
    expect(lines.some((line) => line.includes(`name: '${name}'`))).toBe(true);
  }
});

describe.each(pythonPackages())("Python", (packages) => {
  test("the program prints what the page shows", async () => {
    await mkdir(join(directory.path, "proto"));
    await symlink(`${root}/proto/memoryservice`, join(directory.path, "proto/memoryservice"));
    const generate = /mkdir -p generated\n[\s\S]*?\*\.proto/.exec(clients.text)?.[0] ?? "";
    // grpcio-status is not installed, so the program omits its last part, which needs it.
    const program = blockOf(clients, "python")
      .replace(/^from (google\.rpc|grpc_status) .*\n/gm, "")
      .replace(/^ {4}try:[\s\S]*$/m, "");
    const code = `${generate}\nPYTHONPATH=generated:${packages} python3 - <<'PROGRAM'\n${program}\nPROGRAM\n`;
    const printed = await runShell(code, {
      url: server.url,
      directory: directory.path,
      env: { PYTHONPATH: packages },
    });
    expect(blockOf(clients, "text", 1).startsWith(printed)).toBe(true);
    expect(printed.split("\n").length).toBeGreaterThan(4);
  });
});

async function waitUntilEmbedded(domain: string, memories: number): Promise<void> {
  using connection = openGrpcClient(server.url);
  await vi.waitFor(
    async () => {
      const { hits } = await connection.client.search({ query: "doctor", domain });
      expect(hits.filter(({ memory }) => memory?.embedding?.state === State.READY)).toHaveLength(memories);
    },
    { timeout: 20_000, interval: 50 },
  );
}
